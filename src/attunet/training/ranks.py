"""Which of several processes this is, when a training is shared by them. Knows no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

__all__ = ["leads", "wait_for"]

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""As set by torchrun, lightning and SLURM for the processes they start."""

_POLL_SECONDS = 0.2


def leads() -> bool:
    """Whether this process is the one that writes and speaks: the first of all, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def wait_for(done: Callable[[], bool]) -> None:
    """Wait until the first process has written something. It may take as long as reading the whole data set."""
    while not done():
        time.sleep(_POLL_SECONDS)
