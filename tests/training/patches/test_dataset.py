from dataclasses import replace

import numpy as np
import pytest
import torch

from attunet.data.preprocess import IGNORED
from attunet.training.patches import dataset as patches
from attunet.training.patches.dataset import PatchDataset

MANY = 24


def same(one, two):
    return all(torch.equal(*pair) for pair in zip(one, two, strict=True))


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


def test_shapes_and_types(stored, tiny_plan, tiny_config):
    image, label, known = PatchDataset(stored, tiny_plan(), tiny_config())[0]
    assert (image.shape, label.shape) == ((1, 16, 16, 8), (16, 16, 8))
    assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
    assert known.tolist() == [True, True]
    flat = PatchDataset(stored, tiny_plan(dims=2), tiny_config())
    for index in range(MANY):
        image, label, _ = flat[index]
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

    annotated = None

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
    image, label, _ = PatchDataset(stored, plan, tiny_config(augmentation="none"))[1]
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


class Marked:
    """A stored case with one voxel of each of three classes; the annotator drew what the arguments name."""

    def __init__(self, *annotated):
        self.annotated = annotated or None

    def image(self):
        return np.zeros((1, 8, 8, 8), np.float32)

    def label(self):
        label = np.zeros((8, 8, 8), np.uint8)
        label[2, 2, 2], label[4, 4, 4], label[5, 5, 5] = 1, 2, 3
        return label

    def points(self):
        return {index: np.argwhere(self.label() == index) for index in (1, 2, 3)}


def centres(case, plan, config):
    """The labels at the centres of patches, with what is known in them."""
    data = PatchDataset([case], plan, config(augmentation="none", foreground_fraction=1.0))
    patches = [data[index] for index in range(MANY)]
    (known,) = {tuple(patch.known.tolist()) for patch in patches}
    return {int(patch.label[1, 1, 1]) for patch in patches}, known


def test_patches_centre_on_classes_that_were_drawn(tiny_plan, tiny_config):
    labels = {"background": 0, "liver": 1, "spleen": 5, "kidney": 6}
    plan = tiny_plan(labels=labels, patch_size=(3, 3, 3), batch_size=1)
    assert centres(Marked(), plan, tiny_config) == ({1, 2, 3}, (True, True, True, True))
    assert centres(Marked("liver", "kidney"), plan, tiny_config) == ({1, 3}, (True, True, False, True))


def test_patches_centre_on_classes_of_known_regions(make_regions_plan, tiny_config):
    plan = make_regions_plan(patch_size=(3, 3, 3), batch_size=1)
    assert centres(Marked(), plan, tiny_config) == ({1, 2, 3}, (True, True, True))
    assert centres(Marked("core"), plan, tiny_config) == ({2, 3}, (False, True, False))
