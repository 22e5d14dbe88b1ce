"""The processes of a training run: their ranks, communication, and other load on their cores.

Torch is imported only where it is used, so that a wrong command is refused at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import current_process
from threading import current_thread, main_thread
from typing import TypeVar

from attunet.data.slabs import available_cores

__all__ = [
    "all_gather",
    "barrier",
    "busy_seconds",
    "can_start_processes",
    "cpu_contention",
    "defer_interrupts",
    "is_rank_zero",
    "rank_and_world_size",
    "used_cores",
    "wait_until",
]

T = TypeVar("T")

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Environment variables that torchrun, lightning and SLURM set for the processes they start."""

_POLL_SECONDS = 0.2
_SAMPLE_SECONDS = 0.3
_CONTENDED_CORES = 0.5


def is_rank_zero() -> bool:
    """Whether this process writes files and messages: the first one, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def can_start_processes() -> bool:
    """Whether this process may start others; a daemonic one, as task queues use them, may not."""
    return not current_process().daemon


def wait_until(done: Callable[[], bool]) -> None:
    """Wait until the first process has written its result, which may take as long as reading the whole data set."""
    while not done():
        time.sleep(_POLL_SECONDS)


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of processes in torch's process group; 0 and 1 without a group."""
    from torch import distributed

    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def all_gather(rows: list[T]) -> list[T]:
    """Gather the rows of all processes, in the order of their ranks, in every process."""
    from torch import distributed

    _, world_size = rank_and_world_size()
    if world_size == 1:
        return rows
    gathered: list[list[T]] = [[] for _ in range(world_size)]
    distributed.all_gather_object(gathered, rows)
    return [row for part in gathered for row in part]


def barrier() -> None:
    """Wait for the other processes, if there are any."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Handle Ctrl-C only when the block ends; processes started in the block ignore it.

    A terminal sends it to every process of a command. Only the main one should react: a starting process would die with
    its own traceback, and a pool that is interrupted while it starts cannot be closed.
    """
    if current_thread() is not main_thread():  # only the main thread is ever interrupted
        yield
        return
    received: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: received.append(number))
    inherited = hasattr(signal, "pthread_sigmask")  # not on Windows
    if inherited:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if inherited:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, handler)
    if received:
        signal.raise_signal(signal.SIGINT)


def cpu_contention(threads: int, used: Callable[[float], float] | None = None, cores: int | None = None) -> str:
    """A warning when other programs leave fewer cores than a training that keeps its threads; empty otherwise.

    The threads of a training run wait for each other at every layer, so one delayed thread delays all of them.

    Args:
        threads: number of threads that training uses.
        used: measures the cores in use over some seconds; None for `used_cores`.
        cores: number of cores available to the process; None to ask the system.
    Returns: the text, or an empty string.
    """
    if threads == 1 or (used_by_others := (used or used_cores)(_SAMPLE_SECONDS)) < _CONTENDED_CORES:
        return ""
    free = (len(available_cores()) if cores is None else cores) - used_by_others
    if free > threads - _CONTENDED_CORES:  # other folds have their own share of a large machine
        return ""
    fewer = max(1, round(free))
    return (
        f"other programs use {used_by_others:.1f} cores, and the {threads} threads of this training wait for each "
        f"other: it will be several times slower. Stop those programs, or set OMP_NUM_THREADS={fewer} and start again; "
        "a training with --max-time uses fewer threads meanwhile by itself"
    )


def used_cores(seconds: float) -> float:
    """The number of cores available to this process that are in use, measured over this time."""
    started, before = time.monotonic(), busy_seconds()
    time.sleep(seconds)
    return (busy_seconds() - before) / (time.monotonic() - started)


def busy_seconds() -> float:
    """The time in seconds for which the available cores were in use since the machine started, summed over them.

    Time that a virtual machine did not get counts, too: others used it.
    """
    import psutil

    times = psutil.cpu_times(percpu=True)
    # Guests are part of user time on Linux; only some systems have the other fields.
    fields = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
    return sum(getattr(times[core], name, 0.0) for core in available_cores() if core < len(times) for name in fields)
