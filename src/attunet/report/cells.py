"""Cells of tables: numbers with fixed digits, intervals, means with standard deviations, a dash for no value."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from attunet.display import decimals
from attunet.evaluation.metrics import TABULATED, MetricSpec
from attunet.evaluation.summary import Summary

__all__ = ["NOTHING", "between", "mean_cells", "number", "score_cells", "spread"]

NOTHING = "–"
"""The cell of a missing value."""


def number(value: float, digits: int) -> str:
    """A number with this many decimals; a dash for nan."""
    return NOTHING if isnan(value) else decimals(value, digits)


def between(interval: tuple[float, float], digits: int) -> str:
    """Both ends of an interval; a dash if there is none."""
    return NOTHING if isnan(interval[0]) else " to ".join(number(end, digits) for end in interval)


def spread(summary: Summary, label: str, metric: str, digits: int) -> str:
    """Mean ± standard deviation of a metric over the cases; only the mean if a single case has it.

    Args:
        summary: the scores.
        label: one of its labels.
        metric: a key of `METRICS`.
        digits: after the decimal point.
    Returns: the cell.
    """
    mean, deviation = summary.mean(label, metric), summary.deviation(label, metric)
    return number(mean, digits) if isnan(deviation) else f"{number(mean, digits)} ± {number(deviation, digits)}"


def score_cells(summary: Summary, label: str, metrics: Sequence[MetricSpec] = TABULATED) -> list[str]:
    """Mean ± standard deviation of each metric over the cases of a label.

    Args:
        summary: the scores.
        label: one of its labels.
        metrics: the metrics; by default those of every table of scores.
    Returns: one cell for each metric.
    """
    return [spread(summary, label, spec.name, spec.digits) for spec in metrics]


def mean_cells(summary: Summary, metrics: Sequence[MetricSpec] = TABULATED) -> list[str]:
    """Mean of the labels' means of each metric."""
    return [number(summary.foreground_mean(spec.name), spec.digits) for spec in metrics]
