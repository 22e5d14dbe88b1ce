"""Numbers as the cells of a table: digits, a dash where there is nothing, what belongs together in one cell."""

from __future__ import annotations

from math import isnan

from attunet.evaluation.summary import Summary

__all__ = ["between", "number", "spread"]

NOTHING = "–"


def number(value: float, digits: int) -> str:
    """A number with that many digits after the point; a dash for nan."""
    return NOTHING if isnan(value) else f"{value:.{digits}f}"


def between(interval: tuple[float, float], digits: int) -> str:
    """Both ends of an interval; a dash where there is none."""
    return NOTHING if isnan(interval[0]) else " to ".join(number(end, digits) for end in interval)


def spread(summary: Summary, label: str, metric: str, digits: int) -> str:
    """Mean ± standard deviation of a metric over the cases; the mean alone where one case has it."""
    mean, deviation = summary.mean(label, metric), summary.deviation(label, metric)
    return number(mean, digits) if isnan(deviation) else f"{number(mean, digits)} ± {number(deviation, digits)}"
