"""A word when the cores are taken."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from attunet.training import crowding as crowding_file
from attunet.training.crowding import busy_cores, crowding


@pytest.fixture
def threads(monkeypatch):
    return lambda count: monkeypatch.setattr(torch, "get_num_threads", lambda: count)


@pytest.fixture
def busy(monkeypatch):
    return lambda cores: monkeypatch.setattr(crowding_file, "busy_cores", lambda _seconds: cores)


def test_a_busy_machine_is_told_with_what_to_do(threads, busy):
    threads(4)
    busy(1.2)
    assert "keep 1.2 cores busy" in crowding()
    assert "OMP_NUM_THREADS=3" in crowding()


@pytest.mark.parametrize(("count", "cores"), [(4, 0.2), (1, 3.0)])
def test_free_cores_and_single_threads_need_no_word(count, cores, threads, busy):
    threads(count)
    busy(cores)
    assert crowding() == ""


def test_there_is_always_a_thread_left(threads, busy):
    threads(2)
    busy(2.0)
    assert "OMP_NUM_THREADS=1" in crowding()


def test_a_program_at_work_is_seen():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as program:
        try:
            assert busy_cores(0.5) > 0.4
        finally:
            program.kill()
