"""How far a training is, by steps or by the clock, and the learning rate that goes with it."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl

from attunet.config import TrainingConfig

__all__ = ["Schedule"]


class Schedule(pl.Callback):
    """Warms up, then decays the rate polynomially to zero at the end of the budget, and stops there.

    The budget is `max_time` seconds of wall clock (validation included, interruptions not), or else `epochs`.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._earlier = 0.0
        self._started = time.monotonic()
        self._step = 0

    @property
    def elapsed(self) -> float:
        """Seconds trained so far, over all resumptions."""
        return self._earlier + time.monotonic() - self._started

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
        trainer.should_stop = self.progress >= 1.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of this step."""
        self._step = trainer.global_step
        warm = min(1.0, (self._step + 1) / max(1, self._config.warmup_steps))
        rate = self._config.learning_rate * warm * (1 - self.progress) ** self._config.schedule_power
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop when the budget is used up."""
        self._step = trainer.global_step
        if self.progress >= 1.0:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._earlier = float(state_dict["elapsed"])
        self._started = time.monotonic()
