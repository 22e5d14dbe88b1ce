from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import get_track_meta

from attunet.config import Normalization, Preprocessing
from attunet.data.preprocess import IGNORED
from attunet.training.losses.targets import class_targets, output_classes
from attunet.training.patches.augmentation import Augmentation, IntensityChanges, Motion, Patch, intensity_steps

SIZE = (12, 10, 8)
MOVED = Motion(rotated=True, scaled=True, deformed=False)
STILL = Motion(rotated=False, scaled=False, deformed=False)


def of_spacing(*spacing):
    return Preprocessing(spacing=spacing, normalization=(Normalization(kind="zscore"),))


def augmentation(tiny_plan, tiny_config, *, kind="default", elastic=0.0, **changes):
    dims = changes.get("dims", 3)
    plan = tiny_plan(**{"patch_size": SIZE if dims == 3 else (12, 10, 1), **changes})
    return Augmentation(plan, tiny_config(augmentation=kind, elastic=elastic))


def a_patch(size, seed=0):
    """A patch of two channels whose labels are noise, with some voxels ignored."""
    rng = np.random.default_rng(seed)
    label = torch.from_numpy(rng.integers(0, 3, size, dtype=np.uint8))
    label[0] = IGNORED
    image = torch.from_numpy(rng.normal(0, 1, (2, *size)).astype(np.float32))
    return Patch(image, label, torch.tensor([True, False, True]))


def augmented(transform, seed, patch=None, dims=3):
    """One patch as training makes it, of a volume that `a_patch` makes unless one is given."""
    rng = np.random.default_rng(seed)
    motion = transform.draw_motion(rng)
    patch = patch or a_patch(transform.box(motion)[:dims])
    return transform(patch, motion, rng)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    dims=st.sampled_from([2, 3]),
    kind=st.sampled_from(["default", "paper", "none"]),
    elastic=st.sampled_from([0.0, 0.5]),
    thick=st.booleans(),
)
def test_any_draw_keeps_shapes_classes_and_finite_numbers(seed, dims, kind, elastic, thick, tiny_plan, tiny_config):
    spacing = of_spacing(1.0, 1.0, 4.0 if thick else 1.0)
    fields = {"dims": dims, "mirror_axes": (0, 1), "preprocessing": spacing}
    image, label, annotated = augmented(
        augmentation(tiny_plan, tiny_config, kind=kind, elastic=elastic, **fields), seed, dims=dims
    )
    assert image.shape == (2, *SIZE[:dims])
    assert label.shape == SIZE[:dims]
    assert (image.dtype, label.dtype, annotated.dtype) == (torch.float32, torch.uint8, torch.bool)
    assert type(image) is type(label) is torch.Tensor
    assert image.is_contiguous()
    assert torch.isfinite(image).all()
    assert set(label.unique().tolist()) <= {0, 1, 2, IGNORED}


@pytest.mark.parametrize("elastic", [0.0, 0.5])
def test_the_same_generator_gives_the_same_patch_whatever_came_before(elastic, tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, mirror_axes=(0, 1, 2), elastic=elastic)
    first = [augmented(transform, seed) for seed in range(20)]
    again = [augmented(transform, seed) for seed in reversed(range(20))]
    for patch, repeated in zip(first, reversed(again), strict=True):
        assert all(torch.equal(*pair) for pair in zip(patch, repeated, strict=True))
    assert not torch.equal(first[0].image, first[1].image)


def test_patches_are_left_as_they_were(tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, mirror_axes=(0, 1, 2))
    for seed in range(20):
        patch = a_patch(SIZE)
        transform(patch, STILL, np.random.default_rng(seed))
        assert all(torch.equal(*pair) for pair in zip(patch, a_patch(SIZE), strict=True))


@pytest.mark.parametrize("axes", [(), (0,), (0, 2), (0, 1, 2)])
def test_mirroring_turns_image_and_label_together_along_the_allowed_axes_only(axes, tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, kind="paper", mirror_axes=axes)
    _, label, annotated = a_patch(SIZE)
    seen = set()
    for seed in range(40):
        image, turned, annotated_after = transform(
            Patch(label[None].float(), label, annotated), STILL, np.random.default_rng(seed)
        )
        assert torch.equal(image[0].to(torch.uint8), turned)
        assert torch.equal(annotated, annotated_after)
        seen.add(tuple(turned.flatten().tolist()))
    assert len(seen) == 2 ** len(axes)


@pytest.mark.parametrize(("slice_axis", "left_right"), [(2, 0), (0, 2)])
def test_left_and_right_change_places_when_they_are_mirrored(slice_axis, left_right, tiny_plan, tiny_config):
    transform = augmentation(
        tiny_plan,
        tiny_config,
        kind="paper",
        labels={"background": 0, "kidney left": 4, "kidney right": 9},
        mirror_axes=(0, 1, 2),
        mirror_swaps=(("kidney left", "kidney right"),),
        preprocessing=of_spacing(1.0, 1.0, 1.0).model_copy(update={"slice_axis": slice_axis}),
    )
    place = torch.arange(SIZE[left_right]).view([-1 if axis == left_right else 1 for axis in range(3)]).expand(SIZE)
    label = torch.where(place < 3, 1, 2).to(torch.uint8)  # left is where the numbers are small
    label[:, :, 0] = IGNORED if left_right != 2 else label[:, :, 0]
    annotated = torch.tensor([True, True, False])
    seen = set()
    for seed in range(40):
        image, turned, annotated_after = transform(
            Patch(place[None].float(), label, annotated), STILL, np.random.default_rng(seed)
        )
        mirrored = bool(image.select(left_right + 1, 0).max() > 0)
        counted = turned != IGNORED
        small = image[0] < 3
        assert (turned[counted & small] == (2 if mirrored else 1)).all()
        assert (turned[counted & ~small] == (1 if mirrored else 2)).all()
        assert annotated_after.tolist() == ([True, False, True] if mirrored else [True, True, False])
        seen.add(mirrored)
    assert seen == {True, False}


def test_regions_of_both_sides_change_places_when_they_are_mirrored(make_regions_plan, tiny_plan, tiny_config):
    regions = {"kidney left": (1, 3), "tumour left": (3,), "kidney right": (2, 4), "tumour right": (4,)}
    plan = make_regions_plan(
        patch_size=SIZE,
        labels={"background": 0, "kidney left": 1, "tumour left": 3, "kidney right": 2, "tumour right": 4},
        regions=regions,
        network=tiny_plan(labels={"background": 0, "a": 1, "b": 2, "c": 3}).network,
        mirror_axes=(0,),
        mirror_swaps=(("kidney left", "kidney right"), ("tumour left", "tumour right")),
    )
    transform = Augmentation(plan, tiny_config(augmentation="paper"))
    label = torch.from_numpy(np.random.default_rng(0).integers(0, 5, SIZE, dtype=np.uint8))
    label[:, 0] = IGNORED
    targets = class_targets(label[None], output_classes(plan))[0]
    annotated = torch.tensor([True, True, False, True])
    seen = set()
    for seed in range(20):
        patch = transform(Patch(label[None].float(), label, annotated), STILL, np.random.default_rng(seed))
        mirrored = not torch.equal(patch.image[0], label.float())
        expected = targets.flip(1)[[2, 3, 0, 1]] if mirrored else targets
        assert torch.equal(class_targets(patch.label[None], output_classes(plan))[0], expected)
        assert patch.annotated.tolist() == ([False, True, True, True] if mirrored else annotated.tolist())
        seen.add(mirrored)
    assert seen == {True, False}


@pytest.mark.parametrize("motion", [Motion(True, False, False), MOVED, Motion(False, False, True)])
@pytest.mark.parametrize("thick", [False, True])
def test_image_and_label_move_together(thick, motion, tiny_plan, tiny_config):
    spacing = of_spacing(1.0, 1.0, 4.0 if thick else 1.0)
    transform = augmentation(
        tiny_plan, tiny_config, kind="paper", elastic=0.5, patch_size=(16, 16, 16), preprocessing=spacing
    )
    grid = np.indices(transform.box(motion))
    ball = torch.from_numpy(((grid - np.array([13, 8, 9]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 16)
    for seed in range(5):
        patch = Patch(ball[None].float(), ball.to(torch.uint8), torch.ones(2, dtype=torch.bool))
        image, label, _ = transform(patch, motion, np.random.default_rng(seed))
        assert label.any()
        assert ((image[0] > 0.5) == (label == 1)).float().mean() > 0.99


@pytest.mark.parametrize("motion", [MOVED, Motion(False, False, True)])
def test_thick_slices_are_not_mixed(motion, tiny_plan, tiny_config):
    def spread_within_slices(spacing):
        transform = augmentation(
            tiny_plan, tiny_config, elastic=0.5, kind="paper", preprocessing=of_spacing(1.0, 1.0, spacing)
        )
        size = transform.box(motion)
        image = torch.arange(float(size[2])).expand(1, *size).clone()
        patch = Patch(image, torch.zeros(size, dtype=torch.uint8), torch.ones(2, dtype=torch.bool))
        moved = [transform(patch, motion, np.random.default_rng(seed)).image[0] for seed in range(5)]
        return max(float((patch.amax((0, 1)) - patch.amin((0, 1))).max()) for patch in moved)

    assert spread_within_slices(5.0) < 1e-3
    assert spread_within_slices(1.0) > 0.2


def test_none_changes_nothing(tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, kind="none", mirror_axes=(0, 1, 2), elastic=1.0)
    patch, rng = a_patch(SIZE), np.random.default_rng(0)
    assert {transform.draw_motion(rng) for _ in range(50)} == {STILL}
    assert torch.equal(transform(patch, STILL, rng).image, patch.image)


def test_motions_are_as_frequent_as_nnunets_and_boxes_larger_only_for_them(tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, dims=2, elastic=0.4)
    rng = np.random.default_rng(0)
    drawn = np.array([transform.draw_motion(rng) for _ in range(3000)])
    assert drawn.mean(0) == pytest.approx([0.2, 0.2, 0.4], abs=0.03)
    assert transform.box(STILL) == (12, 10, 1)
    assert transform.box(MOVED) == (15, 13, 1)


def test_the_box_is_as_deep_as_the_patch_where_slices_stay_apart(tiny_plan, tiny_config):
    transform = augmentation(tiny_plan, tiny_config, preprocessing=of_spacing(1.0, 1.0, 3.0))
    assert transform.box(MOVED) == (15, 13, 8)


def test_monais_own_setting_is_left_as_it_was(tiny_plan, tiny_config):
    before = get_track_meta()
    augmented(augmentation(tiny_plan, tiny_config), 0)
    assert get_track_meta() is before


def an_image(*size, channels=1):
    return torch.from_numpy(np.random.default_rng(0).normal(0, 1, (channels, *size)).astype(np.float32))


class Counted:
    """A transform that counts its calls by its name."""

    def __init__(self, transform, calls):
        self.transform, self.calls = transform, calls

    def set_random_state(self, seed):
        self.transform.set_random_state(seed=seed)

    def __call__(self, image):
        self.calls[type(self.transform).__name__] += 1
        return self.transform(image)


def test_changes_are_as_frequent_as_nnunets():
    calls = Counter()
    steps = [step._replace(transform=Counted(step.transform, calls)) for step in intensity_steps(2)]
    changes, image, rng = (
        IntensityChanges(2, within_slices=False, steps=steps),
        an_image(4, 4),
        np.random.default_rng(0),
    )
    for _ in range(2000):
        changes(image, rng)
    expected = {
        "RandGaussianNoise": 0.1,
        "RandGaussianSmooth": 0.2 * 0.5,
        "RandScaleIntensity": 0.15,
        "RandScaleIntensityFixedMean": 0.15,
        "RandSimulateLowResolution": 0.25 * 0.5,
        "RandAdjustContrast": 0.4,
    }
    assert {name: many / 2000 for name, many in calls.items()} == pytest.approx(expected, abs=0.025)


def test_channels_are_changed_each_in_its_own_way():
    changes, image = IntensityChanges(3, within_slices=False), an_image(6, 5, 4).expand(2, -1, -1, -1).clone()
    changed = [changes(image, np.random.default_rng(seed)) for seed in range(30)]
    assert any(not torch.equal(image[0], image[1]) for image in changed)


@pytest.mark.parametrize("size", [(6, 5), (6, 5, 4)])
def test_a_change_is_a_function_of_the_generator(size):
    changes, image = IntensityChanges(len(size), within_slices=False), an_image(*size, channels=2)
    first = [changes(image, np.random.default_rng(seed)) for seed in range(20)]
    again = [changes(image, np.random.default_rng(seed)) for seed in reversed(range(20))]
    assert all(torch.equal(*pair) for pair in zip(first, reversed(again), strict=True))
    assert torch.equal(image, an_image(*size, channels=2))


def test_thick_slices_are_not_blurred_into_each_other():
    empty_but_one = torch.zeros(1, 8, 8, 5)
    empty_but_one[..., 2] = an_image(8, 8)

    def leaks(within_slices):
        steps = intensity_steps(2 if within_slices else 3)
        blur = next(step for step in steps if type(step.transform).__name__ == "RandGaussianSmooth")
        always = [blur._replace(probability=1.0, channel_probability=1.0)]
        image = IntensityChanges(3, within_slices=within_slices, steps=always)(empty_but_one, np.random.default_rng(0))
        return bool(image[..., 1].abs().max() > 0)

    assert leaks(False)
    assert not leaks(True)


def test_mirroring_exchanges_the_context_of_paired_labels(tiny_plan, make_cascade, tiny_config):
    labels = {"background": 0, "left lung": 1, "heart": 2, "right lung": 3}
    pairs = (("left lung", "right lung"),)
    plan = make_cascade(tiny_plan(labels=labels, patch_size=SIZE, mirror_axes=(0,), mirror_swaps=pairs))
    transform = Augmentation(plan, tiny_config(augmentation="paper"))
    label = torch.from_numpy(np.random.default_rng(0).integers(0, 4, SIZE, dtype=np.uint8))
    image = torch.stack([label.float(), *(1.0 * (label == value) for value in (1, 2, 3))])
    flipped = set()
    for seed in range(10):
        result = transform(Patch(image, label, torch.ones(4, dtype=bool)), STILL, np.random.default_rng(seed))
        flipped.add(not torch.equal(result.label, label))
        for channel, value in enumerate((1, 2, 3), start=1):
            assert torch.equal(result.image[channel] == 1, result.label == value)
    assert flipped == {True, False}


def test_intensity_leaves_context_alone(tiny_plan, make_cascade, tiny_config):
    transform = Augmentation(make_cascade(tiny_plan(patch_size=SIZE)), tiny_config())
    patch = a_patch(SIZE)
    results = [transform(patch, STILL, np.random.default_rng(seed)) for seed in range(20)]
    assert all(torch.equal(result.image[1], patch.image[1]) for result in results)
    assert not all(torch.equal(result.image[0], patch.image[0]) for result in results)
