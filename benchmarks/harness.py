"""How everything here is measured: the peers in turn, round after round, in one process; medians, and ratios by round.

A machine's speed drifts with heat and neighbours. Peers that take turns drift together, so the ratio of each round is
worth more than any absolute time, and its smallest and largest value say what it is worth.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Goal", "Row", "Run", "Table", "interleave", "ratios"]

PAUSE = 0.05
"""Seconds between two peers: the threads of the first have stopped spinning when the second starts."""

Run = Callable[[], float | None]


@dataclass(frozen=True)
class Row:
    """One peer: its seconds in each round, and what else is known of it, by column."""

    name: str
    seconds: tuple[float, ...]
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Goal:
    """A figure that was promised: at least so many times, or such a share."""

    what: str
    value: float
    least: float
    unit: Literal["times", "share"] = "times"

    @property
    def reached(self) -> bool:
        """Whether the figure, as it is printed, is what was asked."""
        return self._round(self.value) >= self.least

    def __str__(self) -> str:
        got, asked = self._text(self._round(self.value)), self._text(self.least)
        if self.reached:
            return f"{self.what}: {got} (asked: {asked})"
        return f"{self.what}: {got}, **not reached** (asked: {asked})"

    def _round(self, value: float) -> float:
        return round(value, 2 if self.unit == "share" else 1)

    def _text(self, value: float) -> str:
        return f"{value:.0%}" if self.unit == "share" else f"{value:g}×"


@dataclass(frozen=True)
class Table:
    """What one script found. The rows are compared with the first.

    Args: ratio, whether rows are told to be so many times `faster` than the first or to take so many times `longer`;
        notes, a sentence each; command, date and machine are filled in by `publish`.
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
        """Undoes `dataclasses.asdict`."""
        rows = tuple(Row(row["name"], tuple(row["seconds"]), row["facts"]) for row in content["rows"])
        goals = tuple(Goal(**goal) for goal in content["goals"])
        return cls(**{**content, "rows": rows, "goals": goals, "notes": tuple(content["notes"])})


def interleave(runs: Mapping[str, Run], rounds: int, *, warm_up: int = 1) -> dict[str, tuple[float, ...]]:
    """Seconds of each run in each round: A B C, A B C, ... after `warm_up` uncounted rounds.

    A run that returns a number is believed: it timed a part of itself.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for counted in [False] * warm_up + [True] * rounds:
        for name, run in runs.items():
            time.sleep(PAUSE)
            started = time.perf_counter()
            told = run()
            elapsed = time.perf_counter() - started
            if counted:
                seconds[name].append(elapsed if told is None else told)
    return {name: tuple(found) for name, found in seconds.items()}


def ratios(first: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """How many times as long the first took as the other, round by round: median, smallest, largest."""
    by_round = sorted(a / b for a, b in zip(first, other, strict=True))
    return statistics.median(by_round), by_round[0], by_round[-1]
