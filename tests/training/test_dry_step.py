"""The memory of one training step, measured in another process, and scaled where a CPU would take too long."""

from __future__ import annotations

import sys
from math import prod

import pytest
import torch

from attunet.planning.memory import estimate_gb
from attunet.training.dry_step import dry_step, measure_step


def child(code):
    """A command whose process runs this code in place of the step; it ignores the plan it is sent."""
    return [sys.executable, "-c", f"import os, signal, sys\nsys.stdin.read()\n{code}"]


def test_a_step_is_really_run(tiny_plan):
    measured = measure_step(tiny_plan(), "cpu")
    assert measured.share == 1.0
    assert 0.2 < measured.gb < 2.0


def test_what_the_process_reports_is_passed_on(tiny_plan):
    code = """print('some library warns')\nprint('{"gb": 1.5, "share": 0.25}')"""
    assert measure_step(tiny_plan(), "cpu", child(code)) == (1.5, 0.25)


@pytest.mark.parametrize(
    "code",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "sys.exit('torch.OutOfMemoryError: CUDA out of memory')",
        """sys.exit("DefaultCPUAllocator: can't allocate memory")""",
    ],
)
def test_running_out_of_memory_is_infinite(code, tiny_plan):
    assert measure_step(tiny_plan(), "cuda", child(code)).gb == float("inf")


@pytest.mark.parametrize("code", ["sys.exit('ImportError: no torch')", "sys.exit(print('nonsense'))"])
def test_what_cannot_be_run_is_estimated(code, tiny_plan):
    plan = tiny_plan()
    assert measure_step(plan, "cpu", child(code)) == (estimate_gb(plan), 0.0)


def test_a_step_that_never_ends_is_estimated(tiny_plan):
    assert measure_step(tiny_plan(), "cpu", child("signal.pause()"), time_limit=0.5).share == 0.0


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
