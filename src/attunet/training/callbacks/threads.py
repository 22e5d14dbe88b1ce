"""Fewer threads while other programs use the cores of a training on a CPU, and all of them again when they end.

The threads of a layer wait for the slowest of them. Next to one busy program, two threads on two cores are slower than
one: the scheduler lets one of them wait for its turn, and the other waits for it at the end of every layer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import psutil
import torch

from attunet.config import TrainingConfig
from attunet.data.slabs import available_cores
from attunet.training.processes import busy_seconds

__all__ = ["CoreLoad", "ThreadCount", "ThreadsByLoad", "adapts_threads"]

_WINDOW = 2.0
"""Seconds of a measurement."""
_CALM = 3
"""Measurements in a row that find free cores before threads are added."""
_FALL, _RISE = 0.5, 0.3
"""Largest share of a core that other programs may use before a thread less is used, and before one is added."""


def adapts_threads(config: TrainingConfig, accelerator: str) -> bool:
    """Whether a training may change its number of threads: on a CPU, in one process, within a time.

    The number of threads changes the rounding, and so the weights; a training of a number of steps must not depend on
    what else the machine did. Several processes wait for each other at every step.
    """
    return accelerator == "cpu" and bool(config.max_time) and config.devices * config.nodes == 1


class ThreadCount:
    """The number of threads for the present load: falls at once, rises when cores were free for some measurements.

    Args:
        most: number of threads on an idle machine.
        cores: number of cores available to the process.
    """

    def __init__(self, most: int, cores: int) -> None:
        self._most, self._cores = most, cores
        self._calm = 0
        self.threads = most

    def update(self, others: float) -> int:
        """The number of threads, at least one, after a measurement: other programs use `others` cores."""
        free = self._cores - others
        if (fewer := self._within(free + _FALL)) < self.threads:
            self.threads, self._calm = fewer, 0
        elif (more := self._within(free + _RISE)) > self.threads:
            self._calm += 1
            if self._calm == _CALM:
                self.threads, self._calm = more, 0
        else:
            self._calm = 0
        return self.threads

    def _within(self, free: float) -> int:
        return min(self._most, max(1, math.floor(free)))


class CoreLoad:
    """Measures how many of the available cores other programs use, on average since the previous measurement.

    The processes that prepare patches do not count as others.

    Args:
        clock: returns monotonic seconds.
        busy: returns the seconds for which the available cores were in use, since some moment.
        own: returns the processor seconds of this process and those that it started.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        busy: Callable[[], float] = busy_seconds,
        own: Callable[[], float] | None = None,
    ) -> None:
        self._clock, self._busy, self._own = clock, busy, own or _own_seconds
        self._last = self._read()

    def seconds(self) -> float:
        """Seconds since the previous measurement."""
        return self._clock() - self._last[0]

    def measure(self) -> float:
        """The number of cores in use by others."""
        last, self._last = self._last, self._read()
        elapsed, busy, own = (now - then for now, then in zip(self._last, last, strict=True))
        return max(0.0, busy - own) / elapsed if elapsed > 0 else 0.0

    def _read(self) -> tuple[float, float, float]:
        return self._clock(), self._busy(), self._own()


class ThreadsByLoad(pl.Callback):
    """Sets torch's number of threads every few seconds by the load of the machine; restores it at the end.

    Args:
        warn: receives one warning when the number falls for the first time.
        load: measures the load; None measures that of this machine.
        cores: number of cores; None counts those available to this process.
    """

    def __init__(self, warn: Callable[[str], None], load: CoreLoad | None = None, cores: int | None = None) -> None:
        self._warn = warn
        self._load = load or CoreLoad()
        self._cores = cores or len(available_cores())
        self._most = torch.get_num_threads()
        self._count = ThreadCount(self._most, self._cores)
        self._warned = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure from here: what this process did before is no load of others, but may have been short."""
        self._load.measure()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow the load."""
        if self._load.seconds() < _WINDOW:
            return
        before, others = self._count.threads, self._load.measure()
        if (threads := self._count.update(others)) == before:
            return
        torch.set_num_threads(threads)
        if threads < before and not self._warned:
            self._warned = True
            self._warn(
                f"other programs use {others:.1f} of {self._cores} cores: the training is slower, and uses "
                f"{threads} of {self._most} threads until they end"
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the number of threads.

        Args:
            trainer, pl_module, stage: as lightning passes them; not used.
        """
        torch.set_num_threads(self._most)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the number of threads.

        Args:
            trainer, pl_module, exception: as lightning passes them; not used.
        """
        torch.set_num_threads(self._most)


def _own_seconds() -> float:
    """Processor seconds of this process and of those it started that still run."""
    here = psutil.Process()
    seconds = 0.0
    for process in (here, *here.children(recursive=True)):
        try:
            used = process.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        seconds += used.user + used.system
    return seconds
