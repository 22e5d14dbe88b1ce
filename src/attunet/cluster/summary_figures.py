"""Figures that sum up a run: cases a minute by node, volumes of each label, predicted Dice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from attunet.cluster.ledger import LedgerRow
from attunet.report.figures import draw_box
from attunet.report.theme import CHART_WIDTH, chart, color_of, legend_below, tidy

__all__ = ["dice_histogram", "ended_at", "rate_chart", "volume_boxes"]

MOST_NODES, MOST_POINTS, MOST_LABELS = 8, 200, 24
"""Nodes with a colour of their own, points of a label, and labels that are drawn."""
_WIDTHS = (10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 24 * 3600)
_BARS = 60


def ended_at(row: LedgerRow) -> datetime | None:
    """When a case ended; None for a row without a time."""
    try:
        return datetime.fromisoformat(row.time)
    except ValueError:
        return None


def rate_chart(rows: Sequence[LedgerRow]) -> Figure:
    """Cases that ended, by minute: a bar for each period, divided by node.

    Args: rows of cases that are done or failed, at least one with a time.
    """
    ended = [(time, row.node or "unknown") for row in rows if (time := ended_at(row)) is not None]
    first, last = min(ended)[0], max(ended)[0]
    width = next((each for each in _WIDTHS if (last - first).total_seconds() <= _BARS * each), _WIDTHS[-1])
    counts = Counter(node for _, node in ended)
    shown = [node for node, _ in counts.most_common(MOST_NODES)]
    bars = int((last - first).total_seconds() // width) + 1
    heights = np.zeros((len(shown) + 1, bars))
    for time, node in ended:
        which = shown.index(node) if node in shown else len(shown)
        heights[which, int((time - first).total_seconds() // width)] += 60 / width
    figure = chart(CHART_WIDTH, 3.2)
    axes = figure.subplots()
    starts = date2num([first + timedelta(seconds=width * (bar + 0.5)) for bar in range(bars)])
    below, drawn = np.zeros(bars), list[Patch]()
    for position, (name, height) in enumerate(zip([*shown, "other nodes"], heights, strict=True)):
        if height.any():
            color = color_of(position)
            axes.bar(starts, height, width / 86400, below, color=color, edgecolor="white", linewidth=0.3)
            drawn.append(Patch(facecolor=color, label=name))
        below += height
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    tidy(axes, xlabel="time (UTC)", title="Cases a minute")
    legend_below(figure, drawn if len(counts) > 1 else [])
    return figure


def volume_boxes(volumes: Mapping[str, Sequence[float]]) -> Figure:
    """The volumes of each label on a logarithmic axis: a box with its quartiles, and a point for each case.

    Args: label to millilitres above 0; of many cases, as many as can be told apart are drawn, the extremes among them.
    """
    labels = list(volumes)[:MOST_LABELS]
    figure = chart(CHART_WIDTH, 1.3 + 0.5 * len(labels))
    axes = figure.subplots()
    for row, label in enumerate(labels):
        draw_box(axes, row, _thinned(volumes[label]), color_of(row))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    tidy(axes, xlabel="ml", title="Volume per label and case", grid="x")
    axes.set_yticks(range(len(labels)), [f"{label}  (n={len(volumes[label])})" for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    return figure


def dice_histogram(scores: Sequence[float]) -> Figure:
    """How many cases have which predicted Dice. Args: the scores, at least one."""
    figure = chart(CHART_WIDTH, 2.6)
    axes = figure.subplots()
    axes.hist(scores, bins=[edge / 40 for edge in range(41)], color=color_of(1), edgecolor="white", linewidth=0.5)
    tidy(axes, xlabel="predicted Dice", title="Cases by predicted Dice")
    axes.set_xlim(0, 1)
    return figure


def _thinned(values: Sequence[float]) -> list[float]:
    ordered = np.sort(np.asarray(values, float))
    if len(ordered) > MOST_POINTS:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MOST_POINTS).round().astype(int)]
    return [float(value) for value in ordered]
