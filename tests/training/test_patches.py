from dataclasses import replace

import numpy as np
import pytest
import torch

from attunet.data.preprocess import IGNORED
from attunet.training import patches
from attunet.training.patches import PatchDataset, patch_loader

MANY = 24


def same(one, two):
    return torch.equal(one.image, two.image) and torch.equal(one.label, two.label)


def test_an_item_is_a_function_of_seed_and_index(stored, tiny_plan, tiny_config):
    plan = tiny_plan(mirror_axes=(0, 1))
    data, other = (PatchDataset(stored, plan, tiny_config(seed=seed)) for seed in (3, 4))
    forwards = [data[index] for index in range(MANY)]
    backwards = [data[index] for index in reversed(range(MANY))]
    assert all(same(*pair) for pair in zip(forwards, reversed(backwards), strict=True))
    afresh = PatchDataset(stored, plan, tiny_config(seed=3))
    assert same(afresh[MANY - 1], forwards[-1])
    assert not any(same(other[index], forwards[index]) for index in range(MANY))


def test_whole_volumes_are_not_changed_by_what_is_done_to_their_patches(stored, tiny_plan, tiny_config):
    data = PatchDataset(stored[:1], tiny_plan(patch_size=(24, 24, 16)), tiny_config())
    first = [data[index] for index in range(MANY)]
    assert all(same(data[index], patch) for index, patch in enumerate(first))


@pytest.mark.parametrize("limit", [0, 2**30])
def test_reading_piece_by_piece_gives_the_same_as_holding_all_in_memory(
    limit, stored, tiny_plan, tiny_config, monkeypatch
):
    expected = PatchDataset(stored, tiny_plan(), tiny_config())[5]
    monkeypatch.setattr(patches, "_IN_MEMORY_BYTES", limit)
    assert same(PatchDataset(stored, tiny_plan(), tiny_config())[5], expected)


def batches(stored, plan, config, steps_done=0):
    return list(patch_loader(stored, plan, config, lambda: steps_done))


def test_batches_do_not_depend_on_the_number_of_workers(stored, tiny_plan, tiny_config):
    alone, one, two = (batches(stored, tiny_plan(), tiny_config(workers=workers)) for workers in (0, 1, 2))
    assert len(alone) == 3
    for other in (one, two):
        assert all(same(*pair) for pair in zip(alone, other, strict=True))


def test_an_epoch_starts_where_the_training_stands(stored, tiny_plan, tiny_config):
    plan = tiny_plan()
    long = batches(stored, plan, tiny_config(steps_per_epoch=6))
    later = batches(stored, plan, tiny_config(steps_per_epoch=2), steps_done=3)
    assert all(same(*pair) for pair in zip(long[3:5], later, strict=True))


def test_each_epoch_of_one_loader_goes_on(stored, tiny_plan, tiny_config):
    steps = iter((0, 3))
    loader = patch_loader(stored, tiny_plan(), tiny_config(), lambda: next(steps))
    assert not same(next(iter(loader)), next(iter(loader)))


def test_shapes_and_types(stored, tiny_plan, tiny_config):
    image, label = PatchDataset(stored, tiny_plan(), tiny_config())[0]
    assert (image.shape, label.shape) == ((1, 16, 16, 8), (16, 16, 8))
    assert (image.dtype, label.dtype) == (torch.float32, torch.int64)
    flat = PatchDataset(stored, tiny_plan(dims=2), tiny_config())
    for index in range(MANY):
        image, label = flat[index]
        assert (image.shape, label.shape) == ((1, 16, 16), (16, 16))


@pytest.mark.parametrize(("fraction", "labelled"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_the_last_patches_of_a_batch_hold_foreground(fraction, labelled, stored, tiny_plan, tiny_config):
    plan = tiny_plan(patch_size=(5, 5, 5), batch_size=4)
    data = PatchDataset(stored, plan, tiny_config(augmentation="none", foreground_fraction=fraction))
    holds = np.array([[bool((data[4 * batch + place].label == 1).any()) for place in range(4)] for batch in range(30)])
    shares = holds.mean(0)
    assert (shares[4 - labelled :] == 1).all()
    assert (shares[: 4 - labelled] < 0.6).all()


def test_the_centre_lies_in_a_class_where_the_border_allows(stored, tiny_plan, tiny_config):
    plan = tiny_plan(patch_size=(3, 3, 3), batch_size=1)
    data = PatchDataset(stored, plan, tiny_config(augmentation="none", foreground_fraction=1.0))
    assert all(data[index].label[1, 1, 1] == 1 for index in range(MANY))


class Counted:
    """A stored case in which every voxel is its own number."""

    def image(self):
        return np.arange(24 * 24 * 16, dtype=np.float32).reshape(1, 24, 24, 16)

    def label(self):
        return np.zeros((24, 24, 16), np.uint8)

    def points(self):
        return {}


def test_every_place_is_visited(tiny_plan, tiny_config):
    plan = tiny_plan(patch_size=(20, 20, 16), batch_size=1)
    data = PatchDataset([Counted()], plan, tiny_config(augmentation="none", foreground_fraction=0.0))
    seen = torch.cat([data[index].image.flatten() for index in range(200)]).unique()
    assert len(seen) == 24 * 24 * 16


def test_small_volumes_are_padded_and_the_padding_is_ignored(stored, tiny_plan, tiny_config):
    plan = tiny_plan(patch_size=(32, 16, 24))
    image, label = PatchDataset(stored, plan, tiny_config(augmentation="none"))[1]
    assert image.shape == (1, 32, 16, 24)
    inside = (slice(4, 28), slice(None), slice(4, 20))
    assert (label[inside] != IGNORED).all()
    assert (label == IGNORED).sum() == label.numel() - label[inside].numel()
    assert torch.equal(image[:, 0], image[:, 4])
    assert (label[inside] == 1).any()


def test_a_case_without_foreground_gives_any_patch(stored, tiny_plan, tiny_config, tmp_path):
    empty = replace(stored[0], folder=tmp_path)
    for file in stored[0].folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    np.savez(tmp_path / "points.npz")
    assert PatchDataset([empty], tiny_plan(), tiny_config(foreground_fraction=1.0))[0].image.shape == (1, 16, 16, 8)
