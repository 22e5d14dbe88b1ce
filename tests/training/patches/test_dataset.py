from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attunet.data.preprocess import IGNORED
from attunet.errors import ConfigError, TrainingError
from attunet.training.patches.dataset import PatchDataset, PatchOrder, patch_loader

MANY = 24


def same(patch, other):
    return all(torch.equal(*pair) for pair in zip(patch, other, strict=True))


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
def test_reading_piece_by_piece_gives_the_same_as_holding_all_in_memory(limit, stored, tiny_plan, tiny_config):
    expected = PatchDataset(stored, tiny_plan(), tiny_config())[5]
    assert same(PatchDataset(stored, tiny_plan(), tiny_config(), in_memory_bytes=limit)[5], expected)


def test_shapes_and_types(stored, tiny_plan, tiny_config):
    image, label, annotated = PatchDataset(stored, tiny_plan(), tiny_config())[0]
    assert (image.shape, label.shape) == ((1, 16, 16, 8), (16, 16, 8))
    assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
    assert annotated.tolist() == [True, True]
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
    """The labels at the centres of patches, with the outputs that are annotated in them."""
    data = PatchDataset([case], plan, config(augmentation="none", foreground_fraction=1.0))
    patches = [data[index] for index in range(MANY)]
    (annotated,) = {tuple(patch.annotated.tolist()) for patch in patches}
    return {int(patch.label[1, 1, 1]) for patch in patches}, annotated


def test_patches_centre_on_classes_that_were_annotated(tiny_plan, tiny_config):
    labels = {"background": 0, "liver": 1, "spleen": 5, "kidney": 6}
    plan = tiny_plan(labels=labels, patch_size=(3, 3, 3), batch_size=1)
    assert centres(Marked(), plan, tiny_config) == ({1, 2, 3}, (True, True, True, True))
    assert centres(Marked("liver", "kidney"), plan, tiny_config) == ({1, 3}, (True, True, False, True))


def test_patches_centre_on_classes_of_known_regions(make_regions_plan, tiny_config):
    plan = make_regions_plan(patch_size=(3, 3, 3), batch_size=1)
    assert centres(Marked(), plan, tiny_config) == ({1, 2, 3}, (True, True, True))
    assert centres(Marked("core"), plan, tiny_config) == ({2, 3}, (False, True, False))


def at(step=0, rank=0, world=1):
    """A trainer as far as the order of patches knows it."""
    return SimpleNamespace(global_step=step, global_rank=rank, world_size=world)


def batches(stored, plan, config, **where):
    return list(patch_loader(stored, plan, config, lambda: at(**where)))


@pytest.mark.slow
def test_batches_do_not_depend_on_the_number_of_workers(stored, tiny_plan, tiny_config):
    alone, by_one, by_two = (batches(stored, tiny_plan(), tiny_config(workers=workers)) for workers in (0, 1, 2))
    assert len(alone) == 3
    for other in (by_one, by_two):
        assert all(same(*pair) for pair in zip(alone, other, strict=True))


def test_an_epoch_starts_where_the_training_stands(stored, tiny_plan, tiny_config):
    plan = tiny_plan()
    long = batches(stored, plan, tiny_config(steps_per_epoch=6))
    later = batches(stored, plan, tiny_config(steps_per_epoch=2), step=3)
    assert all(same(*pair) for pair in zip(long[3:5], later, strict=True))


def test_each_epoch_of_one_loader_continues(stored, tiny_plan, tiny_config):
    trainer = at()
    loader = patch_loader(stored, tiny_plan(), tiny_config(), lambda: trainer)
    first = next(iter(loader))
    trainer.global_step = 3
    assert not same(first, next(iter(loader)))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_divide_each_batch_among_them(processes):
    orders = [PatchOrder(lambda rank=rank: at(5, rank, processes), 4, 3) for rank in range(processes)]
    assert all(len(list(order)) == len(order) == 12 // processes for order in orders)
    for step in range(3):
        share = 4 // processes
        taken = [index for order in orders for index in list(order)[step * share : (step + 1) * share]]
        assert sorted(taken) == list(range(4 * (5 + step), 4 * (6 + step)))


def test_processes_train_on_the_patches_that_one_would(stored, tiny_plan, tiny_config):
    whole = batches(stored, tiny_plan(), tiny_config())
    shares = [batches(stored, tiny_plan(), tiny_config(devices=2), rank=rank, world=2) for rank in range(2)]
    for step, batch in enumerate(whole):
        together = torch.cat([share[step].image for share in shares])
        assert torch.equal(together, batch.image)


def test_a_batch_that_cannot_be_shared_is_refused(stored, tiny_plan, tiny_config):
    with pytest.raises(ConfigError, match="batch of 2 patches cannot be shared by 3") as caught:
        batches(stored, tiny_plan(), tiny_config(devices=3))
    assert "divides it" in caught.value.hint


def test_parts_of_a_batch_come_one_after_the_other(stored, tiny_plan, tiny_config):
    whole = batches(stored, tiny_plan(), tiny_config())
    parts = batches(stored, tiny_plan(accumulation=2), tiny_config())
    assert len(parts) == 2 * len(whole)
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([part.image for part in parts[2 * step : 2 * step + 2]]), batch.image)


def test_a_part_that_cannot_be_shared_is_refused(stored, tiny_plan, tiny_config):
    with pytest.raises(ConfigError, match="batch of 2 patches in 2 parts cannot be shared by 2 processes"):
        batches(stored, tiny_plan(accumulation=2), tiny_config(devices=2))


@pytest.fixture
def cascaded(stored, tmp_path):
    """The stored cases, whose context is their own image, on the grid of the image."""
    cases = []
    for case in stored:
        np.save(tmp_path / f"{case.id}.npy", case.image()[:], allow_pickle=False)
        cases.append(replace(case, context=tmp_path / f"{case.id}.npy"))
    return cases


@pytest.mark.parametrize("limit", [0, 2**30])
@pytest.mark.parametrize("patch", [(16, 16, 8), (40, 16, 20)])
def test_context_moves_with_the_image_and_keeps_its_values(
    patch, limit, cascaded, tiny_plan, make_cascade, tiny_config
):
    plan = make_cascade(tiny_plan(patch_size=patch, mirror_axes=(0, 1, 2)))
    still = PatchDataset(cascaded, plan, tiny_config(context_corruption=0), in_memory_bytes=limit)
    seen = set()
    for index in range(MANY):
        image = still[index].image
        assert image.shape == (2, *patch)
        seen.add(torch.equal(image[0], image[1]))
        shape = [np.corrcoef(image[0].ravel(), image[1].ravel())[0, 1]]
        assert min(np.abs(shape)) > 0.3  # the intensity of the image alone changes, sometimes by much
    assert seen == {True, False}


def test_without_augmentation_context_is_that_of_the_patch(cascaded, tiny_plan, make_cascade, tiny_config):
    plan, config = make_cascade(tiny_plan()), tiny_config(augmentation="none", context_corruption=0)
    for patch in map(PatchDataset(cascaded, plan, config).__getitem__, range(MANY)):
        assert torch.equal(patch.image[0], patch.image[1])


def test_context_takes_nothing_from_the_randomness_of_other_plans(stored, tiny_plan, tiny_config):
    plain, same_plan = (
        PatchDataset(stored, tiny_plan(), tiny_config(context_corruption=share)) for share in (0.0, 1.0)
    )
    assert all(same(plain[index], same_plan[index]) for index in range(MANY))


def test_a_case_without_its_context_is_refused(stored, tiny_plan, make_cascade, tiny_config):
    with pytest.raises(TrainingError, match="case0 has no context"):
        PatchDataset(stored[:1], make_cascade(tiny_plan()), tiny_config())[0]


def test_a_damaged_context_is_named(cascaded, tiny_plan, make_cascade, tiny_config):
    cascaded[0].context.write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="context of case case0"):
        PatchDataset(cascaded[:1], make_cascade(tiny_plan()), tiny_config())[0]
