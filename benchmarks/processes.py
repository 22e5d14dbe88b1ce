"""Wall-clock time and peak memory of whole programs, child processes included."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PeakMemory", "ProcessUsage", "measure", "memory_bytes", "peak_bytes", "session_processes"]

INTERVAL = 0.1
"""Minimum seconds between two memory samples; longer if needed, to keep sampling below 2% of a core."""
_KB = 1024


@dataclass(frozen=True)
class ProcessUsage:
    """Wall-clock seconds of a program, and its peak memory in GB."""

    seconds: float
    peak_gb: float


class PeakMemory:
    """Peak memory over repeated runs, by name."""

    def __init__(self) -> None:
        self._gb: dict[str, float] = {}

    def run(self, name: str, command: Sequence[str | Path], log: Path, **variables: str) -> float:
        """Run a program and record its peak memory under the name. Returns: its seconds."""
        usage = measure(command, log, **variables)
        self._gb[name] = max(usage.peak_gb, self._gb.get(name, 0.0))
        return usage.seconds

    def __getitem__(self, name: str) -> float:
        return self._gb[name]


def measure(command: Sequence[str | Path], log: Path, **variables: str) -> ProcessUsage:
    """Run a program to its end, with its output in the log. A failure ends the benchmark.

    Memory is sampled as the sum over the processes of its session, counting shared pages once (Pss). The kernel's
    high-water mark of each single process is exact and sets a lower bound. `ru_maxrss` is not usable: a child inherits
    it from the process that started it, and it is not a sum over processes.
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
            peak = peak_bytes(child.pid)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        finally:
            child.wait()
        seconds = time.perf_counter() - started
    if child.returncode:
        raise SystemExit(f"{command[0]} failed:\n{log.read_text()[-2000:]}\nAll of its output is in {log}.")
    return ProcessUsage(seconds, peak / 1e9)


def peak_bytes(session: int) -> int:
    """Peak memory of a session, in bytes, until its leading process ends."""
    peak, pause = 0, 0.0
    ended = os.pidfd_open(session)
    try:
        while not select.select([ended], [], [], pause)[0]:
            sampled_at = time.perf_counter()
            peak = max(peak, *_sampled(session))
            pause = max(INTERVAL, 50 * (time.perf_counter() - sampled_at))
    finally:
        os.close(ended)
    return peak


def memory_bytes(session: int) -> int:
    """Current memory of a session's processes, in bytes."""
    return _sampled(session)[0]


def _sampled(session: int) -> tuple[int, int]:
    """Current memory of a session's processes, and the highest peak of any single one of them, in bytes."""
    total, highest = 0, 0
    for process in session_processes(session):
        try:
            total += _read_bytes(process / "smaps_rollup", "Pss:")
            highest = max(highest, _read_bytes(process / "status", "VmHWM:"))
        except OSError:
            continue  # it has just ended
    return total, highest


def _read_bytes(file: Path, key: str) -> int:
    """Bytes of a line such as `VmHWM:   1024 kB`; 0 if the line is missing, as it is for a process that is ending."""
    lines = (line.split() for line in file.read_text().splitlines())
    return next((int(words[1]) * _KB for words in lines if words and words[0] == key), 0)


def session_processes(session: int) -> Iterator[Path]:
    """The folders in /proc of a session's processes."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            # The program name, in brackets, may contain spaces and brackets; the fields after it do not.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            yield process
