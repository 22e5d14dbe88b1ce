"""Small scans on a Ray cluster of this machine, compared with one process; and the driver's memory over many tasks.

    python benchmarks/cluster_throughput.py [--rounds 3] [--scans 40] [--edge 64] [--tasks 10000] [--quick]

The seconds of a row are those of a scan, from the first that starts to the last that is done: the start of Ray and the
loading of the model are not counted. The overhead of a scan is the time between its start and its end in the driver,
less the time of its own steps in the worker.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from harness import Goal, Row, Table, interleave, ratios
from models import case_plan, write_model
from results import argument_parser, publish

from attunet.cluster.prediction import CaseJob, CaseOutcome, PredictionWork, RunProgress, predict_on_engine
from attunet.cluster.ray_engine import RayEngine
from attunet.cluster.ray_worker import RayWorkers
from attunet.cluster.tasks import TaskEvent
from attunet.data.cases import Case, find_cases
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.inference.batch import predict_cases
from attunet.inference.case_worker import CaseResult
from attunet.inference.segmenter import Segmenter

PLAIN = "attunet predict"
RAY = {"--engine ray, 1 worker of 2 threads": (1, 2), "--engine ray, 2 workers of 1 thread": (2, 1)}
MOST_MS = 30.0
"""Overhead of a scan that is allowed, at the median."""
FEW = 1000
"""Tasks after which the driver's memory is measured first."""


class Timed:
    """Runs on a cluster, and what they took.

    Attributes: overheads, of each scan in ms, by the row.
    """

    def __init__(self, work: PredictionWork, segmenter: Segmenter, cases: list[Case], folder: Path) -> None:
        self._work, self._segmenter, self._cases, self._folder = work, segmenter, cases, folder
        self.overheads: dict[str, list[float]] = {name: [] for name in RAY}

    def plain(self) -> float:
        """Seconds of a scan in this process."""
        with tempfile.TemporaryDirectory(dir=self._folder) as output:
            started = time.perf_counter()
            predict_cases(self._segmenter, self._cases, Path(output), self._work.options)
            return (time.perf_counter() - started) / len(self._cases)

    def on_ray(self, name: str) -> float:
        """Seconds of a scan on a cluster that is started for it."""
        workers, threads = RAY[name]
        moments: list[float] = []
        overheads: list[float] = []

        def watch(event: TaskEvent, _progress: RunProgress) -> None:
            moments.append(time.perf_counter())
            if event.kind == "done" and event.attempt is not None:
                overheads.append(1000 * (event.attempt.seconds - event.attempt.value.result.seconds))

        with tempfile.TemporaryDirectory(dir=self._folder) as output:
            work = replace(self._work, output=Path(output), cores=threads)
            predict_on_engine(
                self._segmenter, work, self._cases, engine_of(RayWorkers(workers=workers, cpus=threads)), on_event=watch
            )
        self.overheads[name] += overheads
        return (moments[-1] - moments[0]) / len(self._cases)


def engine_of(workers: RayWorkers) -> Callable[..., RayEngine]:
    """What makes the engine of a run."""

    def make(work: object, job_of: Callable[[str], CaseJob], memory: int) -> RayEngine:
        return RayEngine(work, job_of, replace(workers, memory=memory))

    return make


def throughput(options: argparse.Namespace, segmenter: Segmenter, work: PredictionWork, folder: Path) -> Table:
    """Seconds of a scan, by how it is predicted."""
    for index in range(options.scans):
        array = np.random.default_rng(index).normal(100, 30, (1, *(options.edge,) * 3)).astype(np.int16)
        write_volume(Volume(array, np.diag([3.0, 3.0, 3.0, 1.0])), folder / "scans" / f"scan{index:03d}.nii.gz")
    timed = Timed(work, segmenter, find_cases([folder / "scans"], 1), folder)
    runs = {PLAIN: timed.plain} | {name: (lambda name=name: timed.on_ray(name)) for name in RAY}
    seconds = interleave(runs, options.rounds, warm_up=0)
    rows = [Row(PLAIN, seconds[PLAIN])]
    for name in RAY:
        each = timed.overheads[name]
        facts = {"overhead a scan, median": f"{statistics.median(each):.1f} ms", "largest": f"{max(each):.0f} ms"}
        rows.append(Row(name, seconds[name], facts))
    worst = max(statistics.median(each) for each in timed.overheads.values())
    one, two = (seconds[name] for name in RAY)
    return Table(
        "cluster_throughput",
        f"{options.scans} scans of {options.edge}³ voxels on the workers of a cluster",
        tuple(rows),
        goals=(
            Goal("2 workers of 1 thread against 1 of 2", ratios(one, two)[0], 1.0),
            Goal(f"{MOST_MS:g} ms over the overhead of a scan", MOST_MS / max(worst, 0.1), 1.0),
        ),
        notes=("The start of Ray and of its workers is not counted.",),
    )


def memory(options: argparse.Namespace, segmenter: Segmenter, work: PredictionWork, folder: Path) -> Table:
    """The driver's memory over many tasks that do nothing, and the time of each."""
    image = folder / "tiny.nii.gz"
    write_volume(Volume(np.zeros((1, 16, 16, 16), np.int16), np.eye(4)), image)
    cases = [Case(f"task{index:05d}", (image,), None) for index in range(options.tasks)]
    here, used, moments = psutil.Process(), [], [0.0]

    def watch(event: TaskEvent, progress: RunProgress) -> None:
        moments[-1:] = [moments[0] or time.perf_counter(), time.perf_counter()]
        if event.kind == "done" and progress.done in (min(FEW, options.tasks // 10), options.tasks):
            used.append(here.memory_info().rss / 2**20)

    def make_engine(_work: PredictionWork, job_of: Callable[[str], CaseJob], _memory: int) -> RayEngine:
        return RayEngine(nothing_to_do, job_of, RayWorkers(workers=2, cpus=1))

    predict_on_engine(
        segmenter, replace(work, output=folder / "tasks"), cases, make_engine, on_event=watch, on_result=lambda _: None
    )
    facts = {"driver's memory at first": f"{used[0]:.0f} MB", "at the end": f"{used[-1]:.0f} MB"}
    row = Row("a task that does nothing", ((moments[-1] - moments[0]) / options.tasks,), facts)
    note = f"{options.tasks} tasks; its memory is measured first after {min(FEW, options.tasks // 10)} of them."
    return Table("cluster_driver", "The driver over many tasks", (row,), notes=(note,))


def nothing_to_do() -> Callable[[CaseJob], CaseOutcome]:
    """Made in a worker: it answers at once."""

    def answer(job: CaseJob) -> CaseOutcome:
        return CaseOutcome(result=CaseResult(case=job.case.id, mask="none", volumes_ml={"organ": 1.0}))

    return answer


def main() -> int:
    """Measure, and print the tables."""
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--edge", type=int, default=64, help="voxels along each axis of a scan")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=("throughput", "memory"), default=("throughput", "memory"))
    options = parser.parse_args()
    if options.quick:
        options.scans, options.tasks, options.rounds = 4, 200, 1
    with tempfile.TemporaryDirectory(prefix="cluster-") as name, tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        folder = Path(name)
        write_model(case_plan(True), folder / "model")
        segmenter = Segmenter.load(folder / "model", device="cpu")
        work = PredictionWork(model=folder / "model", output=folder / "masks", device="cpu")
        tables = {"throughput": throughput, "memory": memory}
        publish([tables[name](options, segmenter, work, folder) for name in options.only], options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
