"""Progress reports during training, to a command line, a notebook or a server, and cancellation."""

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
    """The training progress of a fold.

    Args:
        epoch: index of the current epoch.
        progress: used share of the budget, in [0, 1].
        minutes: training time so far, over all resumptions.
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
    """Receives progress reports; override the methods you need. By default they do nothing."""

    def on_planning_start(self, cases: int) -> None:
        """Planning starts; it will read this many labelled cases."""

    def on_case_planned(self) -> None:
        """Another case was read for the plan; after the last one, the plan's memory is measured."""

    def on_plan(self, plan: Plan, origin: Literal["given", "run", "new"], run: Path) -> None:
        """The plan is known: it was given, belongs to the folder `run`, or was made for the data set."""

    def on_transfer(self, transfer: Transfer, source: str) -> None:
        """Weights of another model will be loaded from `source`, as far as they fit."""

    def on_fold_start(self, fold: int, run: Path) -> None:
        """A fold of a model folder starts with the preprocessing of its cases."""

    def on_case_stored(self) -> None:
        """Another case is preprocessed, or was found in the store."""

    def on_network_start(self, network: str) -> None:
        """A network of a cascade is trained next: a localizer, then the segmentation network; all have a budget."""

    def on_training_start(self) -> None:
        """All cases are preprocessed, and training of the network starts."""

    def on_step(self, state: TrainingState) -> None:
        """A batch was trained."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """An epoch ended, including its validation if there was one."""

    def on_training_end(self) -> None:
        """Training of the network ended; after the last one, the fold is exported and evaluated on whole cases."""

    def on_case_evaluated(self) -> None:
        """Another validation case of the finished fold was scored."""

    def on_fold_end(self, result: FoldResult) -> None:
        """A fold finished."""

    def on_evaluation(self, done: int, total: int) -> None:
        """Finished and total predictions of the cross-validation or comparison that follows training."""

    def on_warning(self, text: str) -> None:
        """A warning for the user, in one line."""

    def lightning(self, schedule: Schedule, history: History) -> Sequence[pl.Callback]:
        """Additional callbacks for lightning's trainer."""
        return ()


SILENT = TrainingCallbacks()
"""Callbacks that do nothing."""


class ProgressReporter(pl.Callback):
    """Passes lightning's events on to `TrainingCallbacks`, and stops training when it is cancelled.

    Args:
        schedule: the progress of the training.
        history: the training history.
        callbacks: receive the progress.
        cancelled: an event that stops training.
    """

    def __init__(
        self, schedule: Schedule, history: History, callbacks: TrainingCallbacks, cancelled: Event | None = None
    ) -> None:
        self._schedule, self._history = schedule, history
        self._callbacks, self._cancelled = callbacks, cancelled

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the start of training."""
        self._callbacks.on_training_start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the step. Raises: CancelledError when training was cancelled."""
        self._callbacks.on_step(self._state(trainer))
        raise_if_cancelled(self._cancelled)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch."""
        self._callbacks.on_epoch_end(self._state(trainer))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the end of training."""
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
