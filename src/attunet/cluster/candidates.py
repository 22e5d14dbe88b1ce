"""The candidates of `select` on many machines: the held-out cases of one fold a worker, for all runs and ensembles."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from attunet.cluster.folds import MakeEngine
from attunet.cluster.scheduler import SchedulerPolicy, run_tasks
from attunet.cluster.tasks import Task, TaskEvent
from attunet.data.slabs import limit_cores
from attunet.errors import AttunetError, CancelledError, EngineError
from attunet.selection.candidates import CandidateFold, Scored

__all__ = ["CandidateScorer", "ClusterCandidates"]

_POLICY = SchedulerPolicy(drain=False)
"""Nothing is written before all folds are evaluated, so that nothing is lost by stopping at once."""

Evaluated = tuple[dict[str, Scored], dict[str, AttunetError]]


@dataclass(frozen=True, kw_only=True)
class CandidateScorer:
    """Makes, in a worker, what evaluates a fold.

    Args: the folder in which the command was given, for relative paths; the cores of a worker, 0 for all.
    """

    folder: Path
    cores: int = 0

    def __call__(self) -> Callable[[CandidateFold], Evaluated]:
        """Prepare this process."""
        with suppress(OSError):  # another machine may not have it; then absolute paths still do
            os.chdir(self.folder)
        if self.cores:
            limit_cores(self.cores)
        return _evaluate


def _evaluate(fold: CandidateFold) -> Evaluated:
    """Evaluate a fold; large probabilities go where this machine has room."""
    here = fold.scratch is not None and fold.scratch.is_dir()
    return (fold if here else replace(fold, scratch=None)).evaluate()


class ClusterCandidates:
    """Evaluates folds on an engine; a `CandidateRunner` for `select`.

    Args:
        make_engine: makes the engine.
        device: of its workers: cpu or cuda; empty for that of the fold.
        cores: of a worker; 0 for all of its machine.
        policy: when a fold is tried again.
        on_event: called with every change of a fold.
    """

    def __init__(
        self,
        make_engine: MakeEngine,
        *,
        device: str = "",
        cores: int = 0,
        policy: SchedulerPolicy = _POLICY,
        on_event: Callable[[TaskEvent], None] = lambda _: None,
    ) -> None:
        self._make_engine, self._device, self._cores = make_engine, device, cores
        self._policy, self._on_event = policy, on_event

    def __call__(
        self, folds: Sequence[CandidateFold], *, progress: Callable[[int, int], None], cancelled: Event | None
    ) -> list[Evaluated]:
        """See `CandidateRunner`: the cases of a fold are reported when all of them are done.

        Raises: EngineError naming the folds whose workers died too often; CancelledError when `cancelled` was set.
        """
        named = {f"fold_{fold.fold}": self._sent(fold) for fold in folds}
        total, done = sum(len(fold.cases) for fold in folds), 0

        def on_event(event: TaskEvent) -> None:
            nonlocal done
            if event.kind == "done":
                done += len(named[event.task].cases)
                progress(done, total)
            self._on_event(event)

        engine = self._make_engine(CandidateScorer(folder=Path.cwd(), cores=self._cores), named.__getitem__)
        try:
            tasks = [Task(name=name, size=len(fold.cases)) for name, fold in named.items()]
            records = run_tasks(tasks, engine, self._policy, on_event=on_event, cancelled=cancelled)
        finally:
            engine.close()
        if failed := [record for record in records if record.state == "failed"]:
            reasons = "; ".join(f"{record.task}: {record.reason}" for record in failed)
            hint = next((record.hint for record in failed if record.hint), "give the same command again")
            raise EngineError(f"{len(failed)} of {len(records)} folds could not be evaluated: {reasons}", hint=hint)
        if any(record.state == "stopped" for record in records):
            raise CancelledError("the evaluation was cancelled", hint="start it again")
        return [record.value for record in records]

    def _sent(self, fold: CandidateFold) -> CandidateFold:
        """A fold for a worker: its paths mean the same on every machine."""
        runs = {name: run.absolute() for name, run in fold.runs.items()}
        return replace(fold, runs=runs, device=self._device or fold.device)
