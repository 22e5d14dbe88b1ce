"""The training schedule: progress by steps or by the clock, and the learning rate that follows from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from attunet.config import TrainingConfig

__all__ = ["Schedule"]

_REDUCTION = 0.25


class Schedule(pl.Callback):
    """Warms up, then decays the learning rate polynomially to zero at the end of the budget, and stops there.

    The budget is `max_time` seconds of wall clock (validation included, interruptions not), or else `epochs`. Several
    processes follow the clock of the first.

    Args:
        config: the recipe.
        reduce_rate: continue with a quarter of the previous learning rate.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, config: TrainingConfig, *, reduce_rate: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._reduce_rate = reduce_rate
        self._clock = clock
        self._scale = 1.0
        self._earlier = 0.0
        self._started = clock()
        self._step = 0

    @property
    def elapsed(self) -> float:
        """Training time so far in seconds, over all resumptions."""
        return self._earlier + self._clock() - self._started

    @property
    def rate_reduced(self) -> bool:
        """Whether the learning rate was reduced after divergence."""
        return self._scale < 1

    @property
    def progress(self) -> float:
        """Used share of the budget, in [0, 1]."""
        if self._config.max_time:
            return min(1.0, self.elapsed / self._config.max_time)
        return min(1.0, self._step / (self._config.epochs * self._config.steps_per_epoch))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = self._clock()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Skip training when the budget is already used up."""
        self._step = trainer.global_step
        self._scale *= _REDUCTION if self._reduce_rate else 1.0
        trainer.should_stop = self._shared_progress(trainer) >= 1.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the learning rate of this step."""
        self._step = trainer.global_step
        warm = min(1.0, (self._step + 1) / max(1, self._config.warmup_steps))
        left = 1 - self._shared_progress(trainer)
        rate = self._scale * self._config.learning_rate * warm * left**self._config.schedule_power
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when the budget is used up."""
        self._step = trainer.global_step
        if self._shared_progress(trainer) >= 1.0:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """The state for resuming."""
        return {"elapsed": self.elapsed, "scale": self._scale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting from that state."""
        self._earlier = float(state_dict["elapsed"])
        self._scale = float(state_dict["scale"])
        self._started = self._clock()

    def _shared_progress(self, trainer: pl.Trainer) -> float:
        """The progress of the first process: clocks differ, but all processes need the same steps and learning rate."""
        if trainer.world_size == 1 or not self._config.max_time:
            return self.progress
        return float(trainer.strategy.broadcast(self.progress))
