"""Figures of a report: training curves, gate curves and box plots of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, isfinite, nan
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attunet.evaluation.summary import Summary
from attunet.report.overlay import overlay
from attunet.report.theme import CHART_WIDTH, INK, chart, color_of, legend_below, legend_columns, save_figure, tidy

__all__ = ["GATE_PREFIX", "curves", "draw_box", "gate_curves", "overlay", "save_figure", "score_boxes"]

Row = Mapping[str, float]

LABEL_PREFIX = "dice_"

GATE_PREFIX = "gate_"
"""Pattern of the columns gate_LEVEL_mean and gate_LEVEL_sd of a history."""


def curves(history: Sequence[Row]) -> Figure:
    """Learning curves: the loss, and the validation Dice per label.

    Args: one mapping per epoch with `loss`, `minutes` or else `epoch`, and in validated epochs `dice` (mean)
        and `dice_LABEL`; a key may be missing or nan in any epoch.
    """
    keys = list(dict.fromkeys(key for row in history for key in row if key.startswith(LABEL_PREFIX)))
    columns = legend_columns([key.removeprefix(LABEL_PREFIX) for key in keys], CHART_WIDTH)
    figure = chart(CHART_WIDTH, 5.2 + 0.2 * ceil((len(keys) + 1) / columns))
    upper, lower = figure.subplots(2, 1, sharex=True)
    unit = "minutes" if any("minutes" in row for row in history) else "epoch"
    _line(upper, history, unit, "loss", color=INK)
    tidy(upper, title="Training loss")
    for position, key in enumerate(keys):
        _line(lower, history, unit, key, color=color_of(position), label=key.removeprefix(LABEL_PREFIX))
    if len(keys) != 1:
        _line(lower, history, unit, "dice", color=INK, label="mean", linewidth=2.2)
    tidy(lower, xlabel=unit, title="Validation Dice")
    lower.set_ylim(0.0, 1.0)
    legend_below(figure, lower.lines)
    return figure


def gate_curves(history: Sequence[Row]) -> Figure:
    """The mean coefficient of every gate during training, and its standard deviation as a band.

    Args: rows as for `curves`, with `gate_LEVEL_mean` and `gate_LEVEL_sd` in the epochs in which it was measured.
    """
    figure = chart(CHART_WIDTH, 3.4)
    axes = figure.subplots()
    unit = "minutes" if any("minutes" in row for row in history) else "epoch"
    keys = list(dict.fromkeys(key for row in history for key in row if _is_mean_of_gate(key)))
    for position, key in enumerate(keys):
        color, spread = color_of(position), key.removesuffix("mean") + "sd"
        _line(axes, history, unit, key, color=color, label=key.removeprefix(GATE_PREFIX).removesuffix("_mean"))
        known = [(row[unit], row[key], row[spread]) for row in history if {unit, key, spread} <= row.keys()]
        if known:
            x, mean, sd = np.array(known).T
            axes.fill_between(x, mean - sd, mean + sd, color=color, alpha=0.18, linewidth=0)
    tidy(axes, xlabel=unit, title="Mean attention of each gate")
    axes.set_ylim(0.0, 1.02)
    legend_below(figure, axes.lines)
    return figure


def _is_mean_of_gate(key: str) -> bool:
    return key.startswith(GATE_PREFIX) and key.endswith("_mean")


def score_boxes(summary: Summary) -> Figure:
    """The Dice of every case: one box per label with its quartiles, and a point per case."""
    labels = list(summary.labels)
    scores = [list(summary.values(label).values()) for label in labels]
    figure = chart(CHART_WIDTH, 1.3 + 0.5 * max(len(labels), 1))
    axes = figure.subplots()
    for row, values in enumerate(scores):
        draw_box(axes, row, values, color_of(row))
    names = [f"{label}  (n={len(values)})" for label, values in zip(labels, scores, strict=True)]
    tidy(axes, xlabel="Dice", title="Dice per label and case", grid="x")
    axes.set_yticks(range(len(labels)), names)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    return figure


def _line(axes: Axes, history: Sequence[Row], unit: str, key: str, **style: Any) -> None:
    points = [(row[unit], row[key]) for row in history if isfinite(row.get(key, nan)) and unit in row]
    if points:
        marker = "o" if len(points) <= 30 else ""
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=3.5, **{"linewidth": 1.6, **style})


def draw_box(
    axes: Axes, row: float, scores: Sequence[float], color: str, *, width: float = 0.5, size: float = 16
) -> None:
    """Draw a horizontal box with its quartiles and a point per score; nothing if there is no score.

    Args:
        axes: where to draw.
        row: position on the vertical axis.
        scores: values of the cases.
        color: color of box and points.
        width: height of the box in units of the vertical axis.
        size: area of a point, in square points.
    """
    if not scores:
        return
    axes.boxplot(
        list(scores),
        positions=[row],
        orientation="horizontal",
        widths=width,
        showfliers=False,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": color, "alpha": 0.3, "edgecolor": "none"},
        medianprops={"color": INK, "linewidth": 1.6},
        whiskerprops={"color": INK, "linewidth": 0.9},
        capprops={"color": INK, "linewidth": 0.9},
    )
    # a fixed seed: the same scores give the same picture
    jitter = np.random.default_rng(0).uniform(-0.28 * width, 0.28 * width, len(scores))
    axes.scatter(scores, row + jitter, s=size, color=color, edgecolors=INK, linewidths=0.5, zorder=3)
