"""Whether other programs are at work on the cores that a training is about to use."""

from __future__ import annotations

import os

import psutil
import torch

__all__ = ["busy_cores", "crowding"]

_SECONDS = 0.3
_ENOUGH = 0.5


def crowding() -> str:
    """What to tell the user before a training on the CPU; nothing when its cores are free.

    The threads of a training wait for each other at every layer, so that one that is kept waiting holds up all.
    """
    threads = torch.get_num_threads()
    if threads == 1 or (busy := busy_cores(_SECONDS)) < _ENOUGH:
        return ""
    free = max(1, threads - round(busy))
    return (
        f"other programs keep {busy:.1f} cores busy, and the {threads} threads of this training wait for each other: "
        f"it will be several times slower. End those programs, or set OMP_NUM_THREADS={free} and start again"
    )


def busy_cores(seconds: float) -> float:
    """How many of the cores that this process may use were at work while it waited so long."""
    shares = psutil.cpu_percent(interval=seconds, percpu=True)
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(shares))
    return sum(share for core, share in enumerate(shares) if core in ours) / 100
