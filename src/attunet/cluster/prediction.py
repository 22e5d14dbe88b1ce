"""Prediction of many cases on an engine: each is answered once, whatever dies.

What is done is decided by the results in the output folder, which all machines see: a run begins with those that are
missing, a worker publishes a result whole or not at all, and the first to publish it wins. The ledger tells the rest.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Literal

from attunet.cluster.case_sizes import case_memory, case_sizes
from attunet.cluster.ledger import LEDGER, Ledger, LedgerRow, read_ledger
from attunet.cluster.scheduler import SchedulerPolicy, run_tasks
from attunet.cluster.tasks import Task, TaskEngine, TaskEvent
from attunet.data.cases import Case, source_uids
from attunet.data.slabs import limit_cores
from attunet.errors import BundleError, DataError, EngineError
from attunet.files import remove_abandoned
from attunet.inference.budget import peak_resident_bytes
from attunet.inference.case import warm_up
from attunet.inference.case_worker import CaseResult, CaseWorker, Hook
from attunet.inference.destination import Destination
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter
from attunet.locks import LOCK, exclusive, require_held

__all__ = ["CaseJob", "CaseOutcome", "EngineMaker", "PredictionWork", "RunProgress", "predict_on_engine"]


@dataclass(frozen=True, kw_only=True)
class CaseJob:
    """What a worker is given for a case.

    Args:
        case: the case, with absolute paths.
        shared: whether no result existed when the run began, so that one that exists now is of this run, and is kept.
    """

    case: Case
    shared: bool


@dataclass(frozen=True, kw_only=True)
class CaseOutcome:
    """What a worker answers.

    Args:
        result: the result of the case.
        peak_bytes: peak memory of the worker's process during the case; 0 where the system does not tell.
    """

    result: CaseResult
    peak_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class PredictionWork:
    """A prediction as every worker sees it; calling it loads the model, and returns what predicts a case.

    Args:
        model: the model folder, which all machines see.
        output: the folder for the results, which all machines see and the driver holds.
        folds: see `Segmenter.load`.
        device: see `Segmenter.load`.
        precision: see `Segmenter.load`.
        manifest: the sha256 of the driver's model; None does not compare.
        options: options of every prediction; scratch files go to the machine's own temporary folder by default.
        destination: the types of output, and how they are named.
        save_attention: write the attention as image files.
        on_prediction: see `Hook`; it is pickled. None for none.
        cores: the cores of a worker; 0 for all.
    """

    model: Path
    output: Path
    folds: Sequence[int] | Literal["all"] | None = None
    device: str = "auto"
    precision: str = "auto"
    manifest: str | None = None
    options: PredictOptions = field(default_factory=PredictOptions)
    destination: Destination = field(default_factory=Destination)
    save_attention: bool = False
    on_prediction: Hook | None = None
    cores: int = 0

    def __call__(self) -> Callable[[CaseJob], CaseOutcome]:
        """Load the model in a worker.

        Raises: BundleError and EngineError as `Segmenter.load`; EngineError when the worker sees another folder.
        """
        store = self.destination.store
        if store is None and not (self.output / LOCK).exists():
            raise EngineError(
                f"{self.output} is another folder here than where the run was started",
                hint="inputs, model and output must be on storage that all machines share, under the same paths",
            )
        if self.cores:
            limit_cores(self.cores)
        segmenter = Segmenter.load(self.model, folds=self.folds, device=self.device, precision=self.precision)
        if self.manifest is not None and segmenter.manifest != self.manifest:
            raise BundleError(f"{self.model} is another model here than where the run was started")
        warm_up(segmenter.members)
        scratch = self.options.scratch or Path(tempfile.gettempdir())
        options = replace(self.options, scratch=scratch, attention=self.options.attention or self.destination.attention)
        worker = CaseWorker(
            segmenter,
            self.output if store is None else scratch,
            options,
            destination=self.destination,
            on_prediction=self.on_prediction,
            save_attention=self.save_attention and self.options.attention,
        )
        return lambda job: _outcome(worker, job)


def _outcome(worker: CaseWorker, job: CaseJob) -> CaseOutcome:
    """Predict a case. Raises: DataError when that is not possible."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak memory counts from here
    result = worker(job.case, shared=job.shared)
    if result.error is not None:
        raise DataError(result.error, hint=result.hint)
    return CaseOutcome(result=result, peak_bytes=peak_resident_bytes())


EngineMaker = Callable[[PredictionWork, Callable[[str], CaseJob], int], TaskEngine]
"""Makes the engine of a run: from the work, the job of a case by its name, and the bytes that a worker needs."""


@dataclass(slots=True)
class RunProgress:
    """Where a run stands.

    Attributes:
        total: number of cases to predict.
        done: how many were written.
        failed: how many failed.
        share: share of the work that is done, by the sizes of the cases.
        by_node: how many each node has ended.
        running: how many each node works on.
    """

    total: int
    done: int = 0
    failed: int = 0
    share: float = 0.0
    by_node: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)


def predict_on_engine(
    segmenter: Segmenter,
    work: PredictionWork,
    cases: Sequence[Case],
    make_engine: EngineMaker,
    *,
    skip_existing: bool = False,
    policy: SchedulerPolicy | None = None,
    on_result: Callable[[CaseResult], None] = lambda _: None,
    on_event: Callable[[TaskEvent, RunProgress], None] = lambda _event, _progress: None,
    cancelled: Event | None = None,
) -> list[CaseResult]:
    """Segment cases on the workers of an engine; as `predict_cases`, which uses this machine alone.

    Args:
        segmenter: the model of `work` in this process, to estimate the memory of the largest cases.
        work: what workers do.
        cases: the images, on storage that all machines share.
        make_engine: makes the engine, see `EngineMaker`.
        skip_existing: skip cases of which everything was written already.
        policy: when a case is tried again or given up; None for three tries.
        on_result: called with every result as it comes.
        on_event: called with every change of a case, and where the run stands.
        cancelled: an event after which nothing new starts.
    Returns: results in the order of the cases; when cancelled, those of the finished cases.
    Raises: ConfigError when a mask would overwrite an image, BusyError when another program writes into the folder,
        FormatError when it vanishes, EngineError when no worker can run.
    """
    work = replace(work, model=work.model.absolute(), output=work.output.absolute())
    output = work.output
    with exclusive(output, "attunet predict"):
        work.destination.begin(cases, output)
        existing = {case.id for case in cases if work.destination.done(case, output)}
        jobs = {
            case.id: CaseJob(case=_absolute(case), shared=case.id not in existing)
            for case in cases
            if not (skip_existing and case.id in existing)
        }
        with Ledger(output / LEDGER) as ledger:
            known = read_ledger(ledger.path)
            ledger.add(
                *(
                    LedgerRow(case=name, state="done")  # a kill came between a result and its row
                    for name in sorted(existing - jobs.keys())
                    if name not in known or known[name].state != "done"
                )
            )
            if not jobs:
                return []
            tasks = _tasks(segmenter, [job.case for job in jobs.values()], work)
            run = _PredictionRun(jobs, tasks, ledger, output, on_result, on_event)
            engine = make_engine(work, jobs.__getitem__, max(task.memory for task in tasks))
            try:
                run_tasks(tasks, engine, policy or SchedulerPolicy(), on_event=run.on_event, cancelled=cancelled)
            finally:
                engine.close()
                remove_abandoned(output)  # what killed workers left
    return [run.results[name] for name in jobs if name in run.results]


def _absolute(case: Case) -> Case:
    """A case that means the same on another machine."""
    if case.remote:
        return case
    return replace(case, images=tuple(path.absolute() for path in case.images))


def _tasks(segmenter: Segmenter, cases: Sequence[Case], work: PredictionWork) -> list[Task]:
    sizes = case_sizes(cases)
    memory = case_memory(segmenter, cases, sizes, work.options)
    return [Task(name=case.id, size=sizes[case.id], memory=memory[case.id]) for case in cases]


class _PredictionRun:
    """Turns what happens to tasks into results, rows of the ledger and progress."""

    def __init__(
        self,
        jobs: dict[str, CaseJob],
        tasks: Sequence[Task],
        ledger: Ledger,
        output: Path,
        on_result: Callable[[CaseResult], None],
        on_event: Callable[[TaskEvent, RunProgress], None],
    ) -> None:
        self.results: dict[str, CaseResult] = {}
        self._jobs, self._ledger, self._output = jobs, ledger, output
        self._on_result, self._on_event = on_result, on_event
        whole = sum(task.size for task in tasks)
        self._shares = {task.name: task.size / whole for task in tasks}
        self._progress = RunProgress(total=len(tasks))
        self._nodes: defaultdict[str, list[str]] = defaultdict(list)  # of the running tries of each case
        ledger.add(*(LedgerRow(case=name, state="queued") for name in jobs))

    def on_event(self, event: TaskEvent) -> None:
        """Enter an event. Raises: FormatError when the output folder has vanished."""
        require_held(self._output)
        name, progress = event.task, self._progress
        if event.kind in ("started", "doubled"):
            self._nodes[name].append(event.node)
            progress.running[event.node] += 1
            self._ledger.add(LedgerRow(case=name, state="running", tries=event.tries, node=event.node))
        else:
            ended = [event.node] if event.kind == "lost" else self._nodes.pop(name, [])
            progress.running.subtract(ended)
        if event.kind in ("done", "failed"):
            self._end(event)
        elif event.kind == "lost":
            seconds = event.attempt.seconds if event.attempt else 0.0
            self._ledger.add(
                LedgerRow(
                    case=name,
                    state="lost",
                    tries=event.tries,
                    node=event.node,
                    seconds=round(seconds, 3),
                    error=event.reason,
                )
            )
        elif event.kind == "stopped":
            self._ledger.add(LedgerRow(case=name, state="queued", tries=event.tries, error=event.reason))
        self._on_event(event, progress)

    def _end(self, event: TaskEvent) -> None:
        """A case is done or failed."""
        progress, peak = self._progress, 0
        if event.kind == "done" and event.attempt is not None:
            outcome: CaseOutcome = event.attempt.value
            result, peak = outcome.result, outcome.peak_bytes
            progress.done += 1
        else:
            seconds = round(event.attempt.seconds, 3) if event.attempt else 0.0
            source = source_uids(self._jobs[event.task].case)
            result = CaseResult(case=event.task, seconds=seconds, source=source, error=event.reason, hint=event.hint)
            progress.failed += 1
        progress.share += self._shares[event.task]
        progress.by_node[event.node] += bool(event.node)
        self.results[event.task] = result
        self._ledger.add(LedgerRow.of(result, node=event.node, tries=event.tries, peak_bytes=peak))
        self._on_result(result)
