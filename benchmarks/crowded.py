"""Training and prediction beside a busy program of another login shell, compared with an idle machine.

    python benchmarks/crowded.py [--rounds 3] [--seconds 60] [--only training prediction] [--quick]

A round measures the same running program without and with a process that keeps one core busy. That process has a
session of its own, with which Linux shares the cores equally, whatever its priority. Run it on an otherwise idle
machine: the first program that uses its cores makes the idle rate a crowded one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event

from harness import Goal, Row, Table, interleave, ratios
from models import case_plan, write_model
from processes import PeakMemory
from programs import Command, attunet_command
from results import argument_parser, publish
from scans import synthetic_ct

from attunet.config import TrainingConfig
from attunet.data.cases import read_dataset
from attunet.data.phantom import write_phantom_dataset
from attunet.errors import CancelledError

BUDGETS = {"time": {"max_time": 1e6}, "steps": {"epochs": 10**6}}
SPINNING = {"GOMP_SPINCOUNT": "300000"}
"""The default of GNU OpenMP: threads that wait look 300,000 times before they sleep."""
PROGRAMS = {
    "attunet train --max-time": ("time", {}),
    "attunet train --epochs": ("steps", {}),
    "— with OpenMP's own waiting": ("steps", SPINNING),
}
"""The budget and the environment of each training."""
IDLE, BUSY = "idle", "one core busy"
TARGET = 0.45
CASES, SLICES, FIRST_STEPS = 8, 60, 20
RECOVERY = 12.0
"""Seconds after the end of the other program that are not part of the idle rate: threads come back after six."""

SPIN = """
import os, sys
if os.fork():
    os._exit(0)
print(os.getpid(), flush=True)
while True:
    os.kill(int(sys.argv[1]), 0)
"""
"""Keeps a core busy for as long as a process lives, and is nobody's child: a training takes its own for its loader."""


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy in a session of its own."""
    command = [sys.executable, "-c", SPIN, str(os.getpid())]
    with subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        other = int(program.stdout.readline()) if program.stdout else 0
        try:
            yield
        finally:
            os.kill(other, signal.SIGKILL)


def training_table(options: argparse.Namespace) -> Table:
    """Seconds per step of running trainings, loader and validation included, each without and with a busy core."""
    times: dict[str, tuple[float, ...]] = {}
    threads: dict[str, str] = {}
    for name, (budget, variables) in PROGRAMS.items():
        command = [sys.executable, __file__, "--train", budget, "--work", options.work, "--rounds", options.rounds]
        command += ["--seconds", options.seconds, *(["--quick"] if options.quick else [])]
        done = subprocess.run(
            list(map(str, command)), env=os.environ | variables, stdout=subprocess.PIPE, text=True, check=True
        )
        for state, phases in json.loads(done.stdout.splitlines()[-1]).items():
            times[f"{name}, {state}"] = tuple(phase["seconds"] for phase in phases)
            threads[f"{name}, {state}"] = str(phases[-1]["threads"])
    rows = tuple(Row(name, seconds, {"threads at the end": threads[name]}) for name, seconds in times.items())
    goals = tuple(_goal(f"{name}, one core busy, of its idle rate", times, name) for name in PROGRAMS)
    note = (
        f"Seconds per step, the mean over {options.seconds:g} s; with a busy core, from the start of the other program."
    )
    return Table("crowded_training", "Training beside a busy program", rows, goals, (note,), ratio="longer")


def prediction_table(options: argparse.Namespace) -> Table:
    """Whole predictions from file to file, without and with a busy core."""
    model = options.work / ("quick_crowded_model" if options.quick else "crowded_model")
    if not (model / "manifest.json").exists():
        write_model(case_plan(options.quick), model)
    scan, name = synthetic_ct(options.work, SLICES, quick=options.quick), "attunet predict"
    command = attunet_command(model, scan, options.work / "masks_crowded", 0.5)
    peak = PeakMemory()

    def beside(command: Command) -> float:
        with busy_core():
            return peak.run(BUSY, command, options.work / "crowded.log")

    runs = {
        f"{name}, {IDLE}": partial(peak.run, IDLE, command, options.work / "crowded.log"),
        f"{name}, {BUSY}": partial(beside, command),
    }
    times = interleave(runs, options.rounds)
    rows = tuple(Row(name, seconds) for name, seconds in times.items())
    goal = _goal(f"{name}, one core busy, of its idle rate", times, name)
    note = f"512 × 512 × {SLICES} voxels of 0.8 × 0.8 × 1.5 mm, no mirroring, random weights."
    return Table("crowded_prediction", "Prediction beside a busy program", rows, (goal,), (note,), ratio="longer")


def _goal(title: str, times: dict[str, tuple[float, ...]], name: str) -> Goal:
    idle, busy = times[f"{name}, {IDLE}"], times[f"{name}, {BUSY}"]
    middle, low, high = ratios(idle, busy)
    return Goal(f"{title} (rounds: {low:.0%} to {high:.0%})", middle, TARGET, "share")


def _threads() -> int:
    """torch's threads. It is imported here, after `attunet.training`, which sets how long its threads look for work."""
    import torch

    return torch.get_num_threads()


def train_in_phases(budget: str, options: argparse.Namespace) -> None:
    """Train, with and without a busy core in turn; print the seconds per step of every phase as JSON."""
    from attunet.planning.fingerprint import fingerprint
    from attunet.planning.options import PlanOptions
    from attunet.planning.planner import make_plan
    from attunet.training.callbacks.progress import TrainingCallbacks, TrainingState
    from attunet.training.fit import fit

    seconds, first, recovery = (2.0, 2, 1.0) if options.quick else (options.seconds, FIRST_STEPS, RECOVERY)
    enough, parent = Event(), os.getppid()
    phases: dict[str, list[dict[str, float]]] = {IDLE: [], BUSY: []}

    class Phases(TrainingCallbacks):
        def __init__(self) -> None:
            self.steps, self.started, self.begin = -first, 0.0, 0.0
            self.state, self.other = IDLE, ExitStack()

        def on_step(self, state: TrainingState) -> None:
            self.steps += 1
            now = time.perf_counter()
            if os.getppid() != parent:  # it was killed, and nobody would read the phases
                enough.set()
            if self.steps <= 0 or now < self.begin:
                self.started, self.steps = now, min(self.steps, 0)
            elif now - self.started >= seconds:
                used = {"seconds": (now - self.started) / self.steps, "threads": _threads()}
                phases[self.state].append(used)
                self.change(now)

        def change(self, now: float) -> None:
            self.other.close()
            if self.state == IDLE:
                self.other.enter_context(busy_core())
            self.state = BUSY if self.state == IDLE else IDLE
            if len(phases[BUSY]) == options.rounds:
                enough.set()
            self.steps, self.started = 0, now
            self.begin = now + (recovery if self.state == IDLE else 0)

    data = options.work / "crowded_data"
    if not (data / "dataset.json").exists():
        write_phantom_dataset(data, CASES, 0)
    dataset = read_dataset(data)
    plan = make_plan(fingerprint(dataset), PlanOptions(size="small"))
    config = TrainingConfig(**BUDGETS[budget], validation_fraction=0.01)
    watch = Phases()
    with tempfile.TemporaryDirectory() as folder, watch.other, suppress(CancelledError):
        run, store = Path(folder) / "run", options.work / "crowded_store"
        fit(dataset, plan, config, run, device="cpu", store=store, callbacks=watch, cancelled=enough)
    print(json.dumps(phases))


TABLES = {"training": training_table, "prediction": prediction_table}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of a phase of a training")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="what to measure")
    parser.add_argument("--train", choices=BUDGETS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.train:
        train_in_phases(options.train, options)
        return
    for name in options.only:
        publish([TABLES[name](options)], options)


if __name__ == "__main__":
    main()
