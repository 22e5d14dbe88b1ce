"""How a training shows itself: a bar with the time left and the live Dice, or a line per validation in a log."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from rich.progress import Progress, TaskID

from attunet.cli.console import notes
from attunet.training.callbacks.history import History
from attunet.training.callbacks.schedule import Schedule

__all__ = ["EpochLines", "TrainingBar"]

_PARTS = 1000


class TrainingBar(pl.Callback):
    """Moves the bar of a training; the bars before and after it are hidden meanwhile."""

    def __init__(
        self,
        progress: Progress,
        before: TaskID,
        task: TaskID,
        after: TaskID,
        schedule: Schedule,
        history: History,
    ) -> None:
        self._progress, self._before, self._task, self._after = progress, before, task, after
        self._schedule, self._history = schedule, history
        self._name = progress.tasks[task].description

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self._progress.update(self._before, visible=False)
        self._progress.reset(self._task, total=_PARTS, visible=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move it."""
        rows = self._history.rows
        words = f"{self._name} · epoch {trainer.current_epoch}"
        if rows:
            words += f" · loss {rows[-1]['loss']:.3f}"
        dice = [row["dice"] for row in rows if "dice" in row]
        if dice:
            words += f" · Dice {dice[-1]:.3f}"
        self._progress.update(self._task, completed=int(self._schedule.progress * _PARTS), description=words)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make room for the final validation."""
        self._progress.update(self._task, visible=False)
        self._progress.reset(self._after, visible=True)


class EpochLines(pl.Callback):
    """One line after each validation, at most every 20 seconds, where there is no terminal to draw a bar on."""

    def __init__(self, schedule: Schedule, history: History) -> None:
        self._schedule, self._history = schedule, history
        self._spoken = -1e9

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how it stands."""
        row = self._history.rows[-1]
        now = time.monotonic()
        if notes().is_terminal or "dice" not in row or (now - self._spoken < 20 and self._schedule.progress < 1):
            return
        self._spoken = now
        notes().print(
            f"epoch {trainer.current_epoch}: {row['minutes']:.1f} min, {self._schedule.progress:.0%} done, "
            f"loss {row['loss']:.3f}, Dice {row['dice']:.3f}",
            highlight=False,
        )
