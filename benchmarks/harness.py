"""The measurement method: interleaved runs, round after round; medians, and ratios per round.

The speed of a machine drifts with its temperature and with other jobs. Interleaved runs drift together, so the ratio
within a round is more reliable than any absolute time; its range over the rounds shows how reliable.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Goal", "Row", "Run", "Table", "interleave", "ratios"]

PAUSE = 0.05
"""Seconds between two runs, so that the threads of the first stop spinning before the second starts."""

Run = Callable[[], float | None]


@dataclass(frozen=True)
class Row:
    """One program or engine.

    Args:
        name: of the program.
        seconds: in each round.
        facts: the values of the other columns.
        scores: Dice of each unseen case, kept in docs/benchmarks.json so that another program can be paired later.
    """

    name: str
    seconds: tuple[float, ...]
    facts: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Goal:
    """A measured figure with its target: a factor or a share that should be at least `target`."""

    name: str
    value: float
    target: float
    unit: Literal["times", "share"] = "times"

    @property
    def reached(self) -> bool:
        """Whether the figure, as printed, is at least the target."""
        return self._round(self.value) >= self.target

    def __str__(self) -> str:
        value, target = self._text(self._round(self.value)), self._text(self.target)
        if self.reached:
            return f"{self.name}: {value} (target: {target})"
        return f"{self.name}: {value}, **not reached** (target: {target})"

    def _round(self, value: float) -> float:
        return round(value, 2 if self.unit == "share" else 1)

    def _text(self, value: float) -> str:
        return f"{value:.0%}" if self.unit == "share" else f"{value:g}×"


@dataclass(frozen=True)
class Table:
    """One table of results. Every row is compared with the first row.

    Args:
        name: identifies the table in docs/benchmarks.json.
        title: its heading.
        rows: the measured programs or engines.
        goals: figures with targets.
        notes: one sentence each.
        ratio: show by which factor a row is `faster` than the first row, or takes `longer`.
        command: the command that reproduces the table; filled in by `publish`.
        date: when it was measured; filled in by `publish`.
        machine: where it was measured; filled in by `publish`.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()
    ratio: Literal["faster", "longer"] = "faster"
    command: str = ""
    date: str = ""
    machine: dict[str, str] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of that name. Raises: StopIteration."""
        return next(row for row in self.rows if row.name == name)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Table:
        """The inverse of `dataclasses.asdict`."""
        rows = tuple(Row(**{**row, "seconds": tuple(row["seconds"])}) for row in content["rows"])
        goals = tuple(Goal(**goal) for goal in content["goals"])
        return cls(**{**content, "rows": rows, "goals": goals, "notes": tuple(content["notes"])})


def interleave(runs: Mapping[str, Run], rounds: int, *, warm_up: int = 1) -> dict[str, tuple[float, ...]]:
    """Seconds of each run in each round: A B C, A B C, ... after `warm_up` rounds that do not count.

    A run that returns a number has timed itself; that number is used.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for counted in [False] * warm_up + [True] * rounds:
        for name, run in runs.items():
            time.sleep(PAUSE)
            started = time.perf_counter()
            own_time = run()
            elapsed = time.perf_counter() - started
            if counted:
                seconds[name].append(elapsed if own_time is None else own_time)
    return {name: tuple(times) for name, times in seconds.items()}


def ratios(first: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Time of the first divided by that of the other, round by round: median, smallest, largest."""
    by_round = sorted(a / b for a, b in zip(first, other, strict=True))
    return statistics.median(by_round), by_round[0], by_round[-1]
