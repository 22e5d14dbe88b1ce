from types import SimpleNamespace

import pytest
import torch

from attunet.errors import ConfigError
from attunet.training.patches.loader import PatchOrder, patch_loader


def at(step=0, rank=0, world=1):
    """A trainer as far as the order of patches knows it."""
    return SimpleNamespace(global_step=step, global_rank=rank, world_size=world)


def batches(stored, plan, config, **where):
    return list(patch_loader(stored, plan, config, lambda: at(**where)))


def same(one, two):
    return all(torch.equal(*pair) for pair in zip(one, two, strict=True))


def test_batches_do_not_depend_on_the_number_of_workers(stored, tiny_plan, tiny_config):
    alone, one, two = (batches(stored, tiny_plan(), tiny_config(workers=workers)) for workers in (0, 1, 2))
    assert len(alone) == 3
    for other in (one, two):
        assert all(same(*pair) for pair in zip(alone, other, strict=True))


def test_an_epoch_starts_where_the_training_stands(stored, tiny_plan, tiny_config):
    plan = tiny_plan()
    long = batches(stored, plan, tiny_config(steps_per_epoch=6))
    later = batches(stored, plan, tiny_config(steps_per_epoch=2), step=3)
    assert all(same(*pair) for pair in zip(long[3:5], later, strict=True))


def test_each_epoch_of_one_loader_goes_on(stored, tiny_plan, tiny_config):
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
