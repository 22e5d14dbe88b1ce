import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.config import Normalization, Preprocessing
from attunet.data.preprocess import IGNORED
from attunet.training.augment import Augmentation, Patch

SIZE = (12, 10, 8)


def augmentation(tiny_plan, tiny_config, *, kind="default", **changes):
    dims = changes.get("dims", 3)
    plan = tiny_plan(**{"patch_size": SIZE if dims == 3 else (12, 10, 1), **changes})
    return Augmentation(plan, tiny_config(augmentation=kind))


def a_patch(size, seed=0):
    """A patch whose label is where the image is bright, with some voxels ignored."""
    rng = np.random.default_rng(seed)
    label = torch.from_numpy(rng.integers(0, 3, size))
    label[0] = IGNORED
    image = torch.from_numpy(rng.normal(0, 1, (2, *size)).astype(np.float32))
    return Patch(image, label)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), dims=st.sampled_from([2, 3]), kind=st.sampled_from(["default", "paper", "none"]))
def test_any_draw_keeps_shapes_classes_and_finite_numbers(seed, dims, kind, tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, kind=kind, dims=dims, mirror_axes=(0, 1))
    rng = np.random.default_rng(seed)
    size = (*SIZE[:dims], 1)[:3]
    asked = transform.input_size(size, rng)[:dims]
    image, label = transform(a_patch(asked, seed), rng)
    assert image.shape == (2, *SIZE[:dims])
    assert label.shape == SIZE[:dims]
    assert (image.dtype, label.dtype) == (torch.float32, torch.int64)
    assert type(image) is type(label) is torch.Tensor
    assert torch.isfinite(image).all()
    assert set(label.unique().tolist()) <= {0, 1, 2, IGNORED}


def test_the_same_generator_gives_the_same_patch_whatever_came_before(tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, mirror_axes=(0, 1, 2))
    patch = a_patch((15, 13, 10))
    first = [transform(patch, np.random.default_rng(seed)) for seed in range(12)]
    again = [transform(patch, np.random.default_rng(seed)) for seed in reversed(range(12))]
    for one, two in zip(first, reversed(again), strict=True):
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.label, two.label)
    assert not torch.equal(first[0].image, first[1].image)


@pytest.mark.parametrize("axes", [(), (0,), (0, 2), (0, 1, 2)])
def test_mirroring_turns_image_and_label_together_along_the_allowed_axes_only(axes, tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, kind="paper", mirror_axes=axes)
    label = torch.from_numpy(np.random.default_rng(0).integers(0, 3, SIZE))
    seen = set()
    for seed in range(40):
        image, turned = transform(Patch(label[None].float(), label), np.random.default_rng(seed))
        assert torch.equal(image[0].long(), turned)
        seen.add(tuple(turned.flatten().tolist()))
    assert len(seen) == 2 ** len(axes)


def test_rotation_moves_image_and_label_together(tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, kind="paper", patch_size=(16, 16, 16))
    grid = np.indices((20, 20, 20))
    ball = torch.from_numpy(((grid - np.array([13, 8, 9]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 16)
    for seed in range(5):
        image, label = transform(Patch(ball[None].float(), ball.long()), np.random.default_rng(seed))
        assert ((image[0] > 0.5) == (label == 1)).float().mean() > 0.99


def test_thick_slices_are_not_mixed_by_rotation(tiny_plan, tiny_config):
    def spread_within_slices(spacing):
        thick = Preprocessing(spacing=spacing, normalization=(Normalization(kind="zscore"),))
        transform = augmentation(tiny_plan, tiny_config, kind="paper", preprocessing=thick)
        image = torch.arange(10.0).expand(1, 15, 13, 10).clone()
        patch = Patch(image, torch.zeros(15, 13, 10, dtype=torch.int64))
        moved = [transform(patch, np.random.default_rng(seed)).image[0] for seed in range(5)]
        return max(float((one.amax((0, 1)) - one.amin((0, 1))).max()) for one in moved)

    assert spread_within_slices((1.0, 1.0, 5.0)) < 1e-3
    assert spread_within_slices((1.0, 1.0, 1.0)) > 0.5


def test_none_changes_nothing(tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, kind="none", mirror_axes=(0, 1, 2))
    patch, rng = a_patch(SIZE), np.random.default_rng(0)
    assert {transform.input_size(SIZE, rng) for _ in range(50)} == {SIZE}
    assert torch.equal(transform(patch, rng).image, patch.image)


def test_boxes_are_larger_only_where_they_will_be_turned(tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config)
    rng = np.random.default_rng(0)
    asked = [transform.input_size((12, 10, 1), rng) for _ in range(500)]
    assert set(asked) == {(12, 10, 1), (15, 13, 1)}
    assert 0.2 < asked.count((15, 13, 1)) / len(asked) < 0.4
