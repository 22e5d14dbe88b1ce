"""What a training reports while it runs, to a command line, a notebook or a server, and how it is cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl

from attunet.config import Plan
from attunet.errors import CancelledError
from attunet.training.callbacks.history import History
from attunet.training.callbacks.schedule import Schedule

if TYPE_CHECKING:
    from attunet.nn.transfer import Transfer
    from attunet.training.finish import FoldResult

__all__ = ["SILENT", "ProgressReporter", "TrainingCallbacks", "TrainingState", "raise_if_cancelled"]


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """How far a fold's training is.

    Args:
        epoch: index of the current epoch.
        progress: share of the budget that is used, in [0, 1].
        minutes: time trained so far, over all resumptions.
        loss: mean loss of the last finished epoch; None before there is one.
        dice: mean Dice of the last validation; None before there is one.
        validated: whether the last finished epoch was validated.
    """

    epoch: int
    progress: float
    minutes: float
    loss: float | None = None
    dice: float | None = None
    validated: bool = False


class TrainingCallbacks:
    """Receives what a training reports; override what you want to show. Nothing is reported by default."""

    def on_planning_start(self, cases: int) -> None:
        """A plan is made; so many labelled cases are read for it."""

    def on_case_planned(self) -> None:
        """One more case is read for the plan; after the last one, its memory is measured."""

    def on_plan(self, plan: Plan, origin: Literal["given", "run", "new"], run: Path) -> None:
        """The plan is settled: it was given, it is that of the folder `run`, or it was made for the data set."""

    def on_transfer(self, transfer: Transfer, source: str) -> None:
        """Weights of another model will be loaded from `source`, as far as they fit."""

    def on_fold_start(self, fold: int, run: Path) -> None:
        """A fold of a model folder begins; its cases are preprocessed first."""

    def on_case_stored(self) -> None:
        """One more case is preprocessed, or was already."""

    def on_training_start(self) -> None:
        """All cases are preprocessed; the network is trained from now on."""

    def on_step(self, state: TrainingState) -> None:
        """A batch was trained."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """An epoch has ended, with its validation if it had one."""

    def on_training_end(self) -> None:
        """The network is trained; the fold is exported and evaluated on whole cases."""

    def on_case_evaluated(self) -> None:
        """One more validation case of the finished fold is scored."""

    def on_fold_end(self, result: FoldResult) -> None:
        """A fold is finished."""

    def on_evaluation(self, done: int, total: int) -> None:
        """Predictions done and in all, of the cross-validation or comparison that follows the training."""

    def on_warning(self, text: str) -> None:
        """Something the user should know, in one line."""

    def lightning(self, schedule: Schedule, history: History) -> Sequence[pl.Callback]:
        """Further callbacks for lightning's trainer."""
        return ()


SILENT = TrainingCallbacks()
"""Shows nothing."""


class ProgressReporter(pl.Callback):
    """Passes lightning's events on to `TrainingCallbacks`, and stops the training when it is cancelled.

    Args:
        schedule: the progress of the training.
        history: its rows.
        callbacks: receive the progress.
        cancelled: an event that, once set, ends the training.
    """

    def __init__(
        self, schedule: Schedule, history: History, callbacks: TrainingCallbacks, cancelled: Event | None = None
    ) -> None:
        self._schedule, self._history = schedule, history
        self._callbacks, self._cancelled = callbacks, cancelled

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the start of the training."""
        self._callbacks.on_training_start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the step. Raises: CancelledError when the training was cancelled."""
        self._callbacks.on_step(self._state(trainer))
        raise_if_cancelled(self._cancelled)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch."""
        self._callbacks.on_epoch_end(self._state(trainer))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the end of the training."""
        self._callbacks.on_training_end()

    def _state(self, trainer: pl.Trainer) -> TrainingState:
        rows = self._history.rows
        return TrainingState(
            epoch=trainer.current_epoch,
            progress=self._schedule.progress,
            minutes=self._schedule.elapsed / 60,
            loss=rows[-1]["loss"] if rows else None,
            dice=next((row["dice"] for row in reversed(rows) if "dice" in row), None),
            validated=bool(rows) and "dice" in rows[-1],
        )


def raise_if_cancelled(cancelled: Event | None) -> None:
    """Raises: CancelledError when the event is set."""
    if cancelled is not None and cancelled.is_set():
        raise CancelledError("the training was cancelled", hint="resume it from its last checkpoint")
