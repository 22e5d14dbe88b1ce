"""The memory of one training step, scaled where a CPU would take too long."""

from __future__ import annotations

from math import prod

import pytest
import torch

from attunet.training.dry_step import dry_step


@pytest.mark.parametrize(
    "changes",
    [{}, {"dims": 2}, {"labels": {"background": 0, "organ": 1, "lesion": 2}}],
    ids=["3-D", "2-D", "three labels"],
)
def test_a_step_takes_more_than_nothing(changes, tiny_plan):
    measured = dry_step(tiny_plan(**changes), "cpu")
    assert measured.gb > 0.2
    assert measured.share == 1.0


def test_regions_have_a_loss_of_their_own(tiny_plan, monkeypatch):
    plan = tiny_plan(labels={"background": 0, "organ": 1, "lesion": 2})
    network = plan.network.model_copy(update={"out_channels": 2})
    nested = plan.model_copy(update={"regions": {"organ": (1, 2), "lesion": (2,)}, "network": network})
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", None)  # of one label per voxel
    assert dry_step(nested, "cpu").gb > 0.2


def test_a_large_step_is_run_with_fewer_voxels(tiny_plan):
    plan = tiny_plan(patch_size=(48, 40, 16), batch_size=4)
    steps = []
    measured = dry_step(plan, "cpu", largest_gb=1e-3, step=lambda batch, patch: steps.append((batch, patch)))
    (_, smallest), (batch, patch) = steps
    assert smallest == (4, 4, 4)
    assert batch == 1
    assert prod(patch) < prod(plan.patch_size)
    assert not any(size % 4 for size in patch)
    assert measured.share == pytest.approx(prod(patch) / (4 * 48 * 40 * 16))
