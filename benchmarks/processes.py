"""Whole programs: their wall-clock time and the most memory that they and their children held at once."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Finished", "Peaks", "measure"]

INTERVAL = 0.1
"""Seconds between two samples of the memory, or longer: at most a fiftieth of a core goes into them."""
_KB = 1024


@dataclass(frozen=True)
class Finished:
    """Seconds of a program, and its peak memory in GB."""

    seconds: float
    peak_gb: float


class Peaks:
    """The largest memory of several runs under one name, and the log of their last."""

    def __init__(self) -> None:
        self._gb: dict[str, float] = {}

    def run(self, name: str, command: Sequence[str | Path], log: Path, **variables: str) -> float:
        """Seconds of the program; its peak is remembered under the name."""
        done = measure(command, log, **variables)
        self._gb[name] = max(done.peak_gb, self._gb.get(name, 0.0))
        return done.seconds

    def __getitem__(self, name: str) -> float:
        return self._gb[name]


def measure(command: Sequence[str | Path], log: Path, **variables: str) -> Finished:
    """Run a program to its end; its output goes to the log. Ends the benchmark when it fails.

    Memory is the sum over the processes of its session, where a page that several share counts once (Pss), sampled; a
    single process's own high-water mark, which the kernel keeps, is exact. Not `ru_maxrss`: a child inherits that of
    the process that started it, and it knows no sum.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        started = time.perf_counter()
        child = subprocess.Popen(
            list(map(str, command)),
            env=os.environ | variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            peak = _watched(child.pid)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        finally:
            child.wait()
        seconds = time.perf_counter() - started
    if child.returncode:
        raise SystemExit(f"{command[0]} failed:\n{log.read_text()[-2000:]}\nAll of its output is in {log}.")
    return Finished(seconds, peak / 1e9)


def _watched(session: int) -> int:
    """The most bytes that a session held until the program that leads it ended."""
    peak, pause = 0, 0.0
    ended = os.pidfd_open(session)
    try:
        while not select.select([ended], [], [], pause)[0]:
            looked = time.perf_counter()
            peak = max(peak, _held(session))
            pause = max(INTERVAL, 50 * (time.perf_counter() - looked))
    finally:
        os.close(ended)
    return peak


def _held(session: int) -> int:
    """Bytes that the processes of a session hold now; at least the largest that one of them ever held."""
    together, highest = 0, 0
    for process in _members(session):
        try:
            together += _number(process / "smaps_rollup", "Pss:")
            highest = max(highest, _number(process / "status", "VmHWM:"))
        except OSError:
            continue  # it has just ended
    return max(together, highest)


def _number(file: Path, key: str) -> int:
    """Bytes of a line such as `VmHWM:   1024 kB`; 0 where the line is missing, as for a process that is ending."""
    lines = (line.split() for line in file.read_text().splitlines())
    return next((int(words[1]) * _KB for words in lines if words and words[0] == key), 0)


def _members(session: int) -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            # The name of the program, in brackets, may hold anything; what follows it may not.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            yield process
