"""How far a training is, by steps or by the clock, and the learning rate that goes with it."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl

from attunet.config import TrainingConfig

__all__ = ["Schedule"]

_CALMER = 0.25


class Schedule(pl.Callback):
    """Warms up, then decays the rate polynomially to zero at the end of the budget, and stops there.

    The budget is `max_time` seconds of wall clock (validation included, interruptions not), or else `epochs`. Several
    processes follow the clock of the first. `calmer` goes on at a quarter of the rate that was used before.
    """

    def __init__(self, config: TrainingConfig, *, calmer: bool = False) -> None:
        self._config = config
        self._calmer = calmer
        self._scale = 1.0
        self._earlier = 0.0
        self._started = time.monotonic()
        self._step = 0

    @property
    def elapsed(self) -> float:
        """Seconds trained so far, over all resumptions."""
        return self._earlier + time.monotonic() - self._started

    @property
    def calmed(self) -> bool:
        """Whether the rate was lowered, because the training had diverged."""
        return self._scale < 1

    @property
    def progress(self) -> float:
        """Share of the budget that is used, in [0, 1]."""
        if self._config.max_time:
            return min(1.0, self.elapsed / self._config.max_time)
        return min(1.0, self._step / (self._config.epochs * self._config.steps_per_epoch))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train nothing more when the budget was used up before."""
        self._step = trainer.global_step
        self._scale *= _CALMER if self._calmer else 1.0
        trainer.should_stop = self._shared_progress(trainer) >= 1.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of this step."""
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
        """What a resumed run must know."""
        return {"elapsed": self.elapsed, "scale": self._scale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._earlier = float(state_dict["elapsed"])
        self._scale = float(state_dict["scale"])
        self._started = time.monotonic()

    def _shared_progress(self, trainer: pl.Trainer) -> float:
        """What the first process says: no two clocks agree, and all must take the same steps at the same rate."""
        if trainer.world_size == 1 or not self._config.max_time:
            return self.progress
        return float(trainer.strategy.broadcast(self.progress))
