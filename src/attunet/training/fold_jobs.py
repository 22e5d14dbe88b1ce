"""The folds to train as values that can be sent to another machine, and what trains them: here, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

from attunet.bundle import fold_folder
from attunet.config import Plan, TrainingConfig
from attunet.data.cases import Dataset, GeometryPolicy
from attunet.training.callbacks.progress import SILENT, TrainingCallbacks, raise_if_cancelled
from attunet.training.finish import FoldResult
from attunet.training.fit import fit
from attunet.training.run_folder import FoldPaths

__all__ = ["FoldJob", "FoldRunner", "train_in_turn"]


@dataclass(frozen=True, kw_only=True)
class FoldJob:
    """The training of one fold, with everything that it needs but the images.

    Args:
        dataset: the labelled cases.
        plan: what to train.
        config: the training settings.
        run: the model folder.
        fold: index of the fold.
        device: auto, cpu or cuda.
        resume: continue from the last checkpoint, if there is one.
        geometry: what to do when the grids of an image and its label differ.
        store: folder of the preprocessed cases; None for the default one of the machine that trains.
    """

    dataset: Dataset
    plan: Plan
    config: TrainingConfig
    run: Path
    fold: int
    device: str = "auto"
    resume: bool = False
    geometry: GeometryPolicy = "fail"
    store: Path | None = None

    @property
    def name(self) -> str:
        """Name of the model folder and of the fold in it."""
        return f"{self.run.name}/{self.paths.name}"

    @property
    def paths(self) -> FoldPaths:
        """The files of the fold."""
        return FoldPaths(fold_folder(self.run, self.fold))

    def train(self, callbacks: TrainingCallbacks = SILENT, cancelled: Event | None = None) -> FoldResult:
        """Train the fold in this process.

        Args: what receives the progress; an event that stops training.
        Returns: the finished fold.
        Raises: as `fit`.
        """
        return fit(
            self.dataset,
            self.plan,
            self.config,
            self.run,
            fold=self.fold,
            device=self.device,
            resume=self.resume,
            geometry=self.geometry,
            store=self.store,
            callbacks=callbacks,
            cancelled=cancelled,
        )


class FoldRunner(Protocol):
    """Trains folds, here or on other machines."""

    def __call__(
        self,
        jobs: Sequence[FoldJob],
        *,
        callbacks: TrainingCallbacks,
        cancelled: Event | None,
        on_start: Callable[[FoldJob], None],
        on_end: Callable[[FoldJob, FoldResult], None],
    ) -> list[FoldResult]:
        """Train every fold.

        Args:
            jobs: the folds.
            callbacks: receive the progress of training.
            cancelled: an event that stops training; it can be resumed.
            on_start: called when a fold starts.
            on_end: called when a fold is finished.
        Returns: the finished folds, in the order of the jobs.
        Raises: as `fit`; CancelledError when `cancelled` was set.
        """


def train_in_turn(
    jobs: Sequence[FoldJob],
    *,
    callbacks: TrainingCallbacks,
    cancelled: Event | None,
    on_start: Callable[[FoldJob], None],
    on_end: Callable[[FoldJob, FoldResult], None],
) -> list[FoldResult]:
    """See `FoldRunner`: in this process, one fold after another; the first error ends all."""
    results = []
    for job in jobs:
        raise_if_cancelled(cancelled)
        on_start(job)
        results.append(job.train(callbacks, cancelled))
        on_end(job, results[-1])
    return results
