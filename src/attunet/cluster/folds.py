"""The folds of a training on many machines: one fold a worker, on a run folder that all of them share.

The program that starts them makes the plan before, and cross-validates after. A fold whose worker died is continued by
another from its last checkpoint. Nothing but the run folder is shared, so that a finished fold is the one that a single
machine trains.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from attunet.cluster.scheduler import SchedulerPolicy, run_tasks
from attunet.cluster.tasks import Task, TaskEngine, TaskEvent, TaskRecord
from attunet.data.slabs import limit_cores
from attunet.errors import BusyError, CancelledError, ConfigError, TrainingError

if TYPE_CHECKING:
    from attunet.training.callbacks.fold_progress import FoldProgress
    from attunet.training.callbacks.progress import TrainingCallbacks
    from attunet.training.finish import FoldResult
    from attunet.training.fold_jobs import FoldJob

__all__ = ["ClusterFolds", "FoldTrainer", "FoldWatch", "MakeEngine", "TrainedFold"]

_PATIENCE = 60.0
"""Seconds in which the files of a worker that died are released."""

FOLDS = SchedulerPolicy(slow_factor=None, drain=False)
"""A fold is never trained twice at once, and is stopped at once: it continues from its last checkpoint."""

MakeEngine = Callable[[Callable[[], Callable[[Any], Any]], Callable[[str], Any]], TaskEngine]
"""Makes an engine from what makes a worker's work, and the payload of a task by its name."""


class FoldWatch(Protocol):
    """Is told about the folds that run and fail, in addition to the callbacks of training."""

    def on_fold_running(self, fold: str, node: str, progress: FoldProgress | None) -> None:
        """A fold (model folder and fold) runs on a node; how far it is, once that is known."""

    def on_fold_lost(self, fold: str, node: str, tries: int, reason: str) -> None:
        """The worker of a fold, or its node, died in the try of this number; another one will continue it."""

    def on_fold_failed(self, fold: str, node: str, reason: str) -> None:
        """A fold is given up; the others go on."""


class TrainedFold(NamedTuple):
    """What a worker answers.

    Args: the finished fold; the warnings of its training.
    """

    result: FoldResult
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FoldTrainer:
    """Makes, in a worker, what trains a fold.

    Args:
        folder: the folder in which the command was given, for relative paths.
        threads: of a worker; None for as many as torch chooses.
    """

    folder: Path
    threads: int | None = None

    def __call__(self) -> Callable[[FoldJob], TrainedFold]:
        """Prepare this process."""
        with suppress(OSError):  # another machine may not have it; then absolute paths still do
            os.chdir(self.folder)
        if self.threads is not None:
            import torch

            limit_cores(self.threads)
            torch.set_num_threads(self.threads)
        return _train


def _train(job: FoldJob) -> TrainedFold:
    """Train a fold, or continue it where another worker left it."""
    from attunet.training.callbacks.fold_progress import ProgressFile

    last = time.monotonic() + _PATIENCE
    while True:
        progress = ProgressFile(job.paths)
        try:
            result = replace(job, resume=job.resume or job.paths.started).train(progress)
            return TrainedFold(result, progress.now.warnings)
        except BusyError:  # a worker that died may hold the fold for a moment
            if time.monotonic() > last:
                raise
            time.sleep(1.0)
        finally:
            progress.remove()


class ClusterFolds:
    """Trains folds on an engine; a `FoldRunner` for `train` and `compare_variants`.

    Args:
        make_engine: makes the engine.
        device: of its workers: cpu or cuda; empty for that of the job.
        threads: of a worker; None for as many as torch chooses.
        watch: is told which folds run where, and how far they are.
        policy: when a fold is tried again.
    """

    def __init__(
        self,
        make_engine: MakeEngine,
        *,
        device: str = "",
        threads: int | None = None,
        watch: FoldWatch | None = None,
        policy: SchedulerPolicy = FOLDS,
    ) -> None:
        self._make_engine, self._device, self._threads = make_engine, device, threads
        self._watch, self._policy = watch, policy

    def __call__(
        self,
        jobs: Sequence[FoldJob],
        *,
        callbacks: TrainingCallbacks,
        cancelled: Event | None,
        on_start: Callable[[FoldJob], None],
        on_end: Callable[[FoldJob, FoldResult], None],
    ) -> list[FoldResult]:
        """See `FoldRunner`: the other folds are finished when one fails, and the errors of all are raised then.

        Raises: TrainingError naming the folds that failed; CancelledError when `cancelled` was set; ConfigError when a
            fold asks for several devices.
        """
        if not jobs:
            return []
        if any(job.config.devices * job.config.nodes > 1 for job in jobs):
            raise ConfigError(
                "one fold a worker, and several devices a fold, exclude each other",
                hint="leave out --devices and --nodes, or --engine",
            )
        named = {job.name: job for job in jobs}
        reports = _Reports(named, callbacks, self._watch, on_start, on_end)
        make = FoldTrainer(folder=Path.cwd(), threads=self._threads)
        engine = self._make_engine(make, lambda name: self._sent(named[name]))
        try:
            records = run_tasks(
                [Task(name=name) for name in named],
                engine,
                self._policy,
                on_event=reports.event,
                on_turn=reports.look,
                cancelled=cancelled,
            )
        finally:
            engine.close()
            for job in named.values():  # what workers that died have left
                job.paths.progress.unlink(missing_ok=True)
        _raise_unfinished(records)
        return [_at_home(record.value.result, named[record.task]) for record in records]

    def _sent(self, job: FoldJob) -> FoldJob:
        """A job for a worker: its paths mean the same on every machine."""
        store = job.store and job.store.absolute()
        return replace(job, run=job.run.absolute(), store=store, device=self._device or job.device)


class _Reports:
    """Passes on what happens to the folds: their events, and the progress that their workers write."""

    def __init__(
        self,
        jobs: Mapping[str, FoldJob],
        callbacks: TrainingCallbacks,
        watch: FoldWatch | None,
        on_start: Callable[[FoldJob], None],
        on_end: Callable[[FoldJob, FoldResult], None],
    ) -> None:
        self._jobs, self._callbacks, self._watch = jobs, callbacks, watch
        self._on_start, self._on_end = on_start, on_end
        self._running: dict[str, str] = {}
        self._warned: set[str] = set()

    def event(self, event: TaskEvent) -> None:
        job = self._jobs[event.task]
        if event.kind == "started":
            if event.tries == 1:
                self._on_start(job)
            self._running[event.task] = event.node
            if self._watch:
                self._watch.on_fold_running(event.task, event.node, None)
            return
        self._running.pop(event.task, None)
        if event.kind == "lost" and self._watch:
            self._watch.on_fold_lost(event.task, event.node, event.tries, event.reason)
        if event.kind == "failed" and self._watch:
            self._watch.on_fold_failed(event.task, event.node, event.reason)
        if event.kind == "done" and event.attempt is not None:
            self._warn(event.task, event.attempt.value.warnings)
            self._on_end(job, _at_home(event.attempt.value.result, job))

    def look(self) -> None:
        from attunet.training.callbacks.fold_progress import FoldProgress

        for name, node in self._running.items():
            if (progress := FoldProgress.read(self._jobs[name].paths)) is None:
                continue
            self._warn(name, progress.warnings)
            if self._watch:
                self._watch.on_fold_running(name, node, progress)

    def _warn(self, name: str, warnings: Sequence[str]) -> None:
        for text in warnings:
            if text not in self._warned:  # every fold has those of the data set
                self._warned.add(text)
                self._callbacks.on_warning(f"{name}: {text}")


def _at_home(result: FoldResult, job: FoldJob) -> FoldResult:
    """The result of a worker, with the path that the caller knows."""
    return replace(result, folder=job.paths.folder)


def _raise_unfinished(records: Sequence[TaskRecord]) -> None:
    """Raises: TrainingError for folds that failed, CancelledError for those that were stopped."""
    failed = [record for record in records if record.state == "failed"]
    if failed:
        reasons = "; ".join(f"{record.task}: {record.reason}" for record in failed)
        hints = dict.fromkeys(record.hint for record in failed if record.hint)
        finished = sum(record.state == "done" for record in records)
        again = "finished folds are kept: the same command (attunet train: with --resume) trains what is missing"
        raise TrainingError(
            f"{len(failed)} of {len(records)} folds failed, {finished} are finished: {reasons}",
            hint="; ".join([*hints, again]),
        )
    if any(record.state == "stopped" for record in records):
        raise CancelledError("the training was cancelled", hint="resume it from its last checkpoints")
