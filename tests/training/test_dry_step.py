"""Asking another process how much memory a plan takes."""

from __future__ import annotations

import subprocess

import pytest

from attunet.planning.memory import estimate_gb
from attunet.training import dry_step
from attunet.training.dry_step import measure_step


@pytest.fixture
def answer(monkeypatch):
    """Put a finished process in the place of the one that would take the step."""

    def install(code=0, out="", err=""):
        done = subprocess.CompletedProcess([], code, out, err)
        monkeypatch.setattr(dry_step.subprocess, "run", lambda *_arguments, **_settings: done)

    return install


def test_a_step_is_really_taken(tiny_plan):
    measured = measure_step(tiny_plan(), "cpu")
    assert measured.share == 1.0
    assert 0.2 < measured.gb < 2.0


def test_what_the_process_says_is_passed_on(answer, tiny_plan):
    answer(out='some library warns\n{"gb": 1.5, "share": 0.25}\n')
    assert measure_step(tiny_plan(), "cpu") == (1.5, 0.25)


@pytest.mark.parametrize(
    ("code", "err"),
    [(-9, ""), (1, "torch.OutOfMemoryError: CUDA out of memory"), (1, "DefaultCPUAllocator: can't allocate memory")],
)
def test_want_of_memory_is_infinite(code, err, answer, tiny_plan):
    answer(code, err=err)
    assert measure_step(tiny_plan(), "cuda").gb == float("inf")


@pytest.mark.parametrize(("out", "err"), [("", "ImportError: no torch"), ("nonsense", "")])
def test_what_cannot_be_tried_is_estimated(out, err, answer, tiny_plan):
    answer(1, out, err)
    plan = tiny_plan()
    assert measure_step(plan, "cpu") == (estimate_gb(plan), 0.0)


def test_a_step_that_never_ends_is_estimated(monkeypatch, tiny_plan):
    def hang(*arguments, **settings):
        raise subprocess.TimeoutExpired("step", settings["timeout"])

    monkeypatch.setattr(dry_step.subprocess, "run", hang)
    assert measure_step(tiny_plan(), "cpu").share == 0.0
