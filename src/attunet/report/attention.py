"""Figures of attention: ablation, faithfulness, lift compared with null maps, agreement of attention and mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

from attunet.report.theme import CHART_WIDTH, INK, RULE, chart, color_of, legend_below, tidy

__all__ = ["ablation_bars", "agreement_scatter", "faithfulness_curves", "score_bars"]

AblationRow = tuple[str, str, float, float, float]
ScoreRow = tuple[str, str, str, float, float, float]

MAX_GROUPS = 30

_ROW = 0.24
"""Height of a bar or an interval in inches."""

_STEPS = {
    2.0: (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 6.0, 7.0, 8.0, 9.0),
    10.0: (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
    1e3: (1.0, 2.0, 5.0),
    inf: (1.0,),
}
"""Tick labels of a logarithmic axis, by the ratio of its ends."""


def ablation_bars(
    rows: Sequence[AblationRow], title: str = "What a replaced gate changes", *, metric: str = "change in Dice"
) -> Figure:
    """How a score changes when a gate is replaced, one bar for each replacement, grouped by gate.

    Args:
        rows: (gate, replacement, mean change, lower and upper end of its interval), from top to bottom; a bar whose
            mean is nan is left out, as is an interval that is nan.
        title: title above the chart.
        metric: name of the score, for the axis.
    Returns: the figure.
    """
    places, ticks = _grouped([row[0] for row in rows])
    kinds = list(dict.fromkeys(row[1] for row in rows))
    figure = chart(CHART_WIDTH, 1.5 + _ROW * (max(places, default=0) + 1))
    axes = figure.subplots()
    for kind, replacement in enumerate(kinds):
        entries = [(place, *row[2:]) for place, row in zip(places, rows, strict=True) if row[1] == replacement]
        known = [entry for entry in entries if isfinite(entry[1])]
        axes.barh([place for place, *_ in known], [mean for _, mean, *_ in known], color=color_of(kind), height=0.8)
        _intervals(axes, known, INK)
    axes.axvline(0.0, color=INK, linewidth=0.9)
    _finish_rows(axes, ticks, places, title=title, xlabel=metric)
    legend_below(figure, [Patch(color=color_of(kind), label=name) for kind, name in enumerate(kinds)])
    return figure


def score_bars(
    rows: Sequence[ScoreRow],
    title: str = "Where each gate looks",
    *,
    metric: str = "lift",
) -> Figure:
    """A score of every gate and label with its interval, for the trained network and its nulls, with a line at 1.

    Args:
        rows: (gate, label, source, mean, lower and upper end of its interval), from top to bottom; values that are not
            above 0 are left out, and so are groups after the first 30, as the title then says.
        title: title above the chart.
        metric: name of the score; it is a ratio, so its axis is logarithmic.
    Returns: the figure.
    """
    groups = list(dict.fromkeys(row[:2] for row in rows))
    rows = [row for row in rows if row[:2] in groups[:MAX_GROUPS]]
    if len(groups) > MAX_GROUPS:
        title = f"{title} (the first {MAX_GROUPS} of {len(groups)})"
    places, ticks = _grouped([f"{row[0]}  {row[1]}".strip() for row in rows])
    sources = list(dict.fromkeys(row[2] for row in rows))
    figure = chart(CHART_WIDTH, 1.5 + _ROW * (max(places, default=0) + 1))
    axes = figure.subplots()
    axes.axvline(1.0, color=INK, linewidth=0.9)
    for kind, source in enumerate(sources):
        entries = [(place, *row[3:]) for place, row in zip(places, rows, strict=True) if row[2] == source]
        known = [entry for entry in entries if isfinite(entry[1]) and entry[1] > 0]
        _intervals(axes, [entry for entry in known if entry[2] > 0], color_of(kind), width=2.2)
        axes.scatter(
            [mean for _, mean, *_ in known],
            [place for place, *_ in known],
            color=color_of(kind),
            edgecolors=INK,
            linewidths=0.6,
            s=34,
            zorder=3,
        )
    _log_axis(axes, [value for row in rows for value in row[3:] if isfinite(value) and value > 0])
    _finish_rows(axes, ticks, places, title=title, xlabel=f"{metric} (1: no particular attention)")
    legend_below(figure, [_dot(color_of(kind), name) for kind, name in enumerate(sources)])
    return figure


def faithfulness_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]], title: str = "Dice while voxels are removed or restored"
) -> Figure:
    """Dice against the share of voxels that changed, one line for each name.

    Args: name to points (share from 0 to 1, Dice), without those that are nan; title above the chart.
    """
    figure = chart(CHART_WIDTH, 4.2)
    axes = figure.subplots()
    for position, (name, points) in enumerate(curves.items()):
        known = [point for point in points if all(isfinite(value) for value in point)]
        shares, dice = [share for share, _ in known], [value for _, value in known]
        # dashes distinguish lines that coincide
        style = ("solid", "dashed", "dotted", "dashdot")[position // 2 % 4]
        axes.plot(shares, dice, color=color_of(position), linestyle=style, linewidth=1.8, label=name)
    tidy(axes, xlabel="share of the voxels", title=title)
    axes.set_ylabel("Dice", color=INK)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(-0.02, 1.02)
    legend_below(figure, axes.lines)
    return figure


def agreement_scatter(
    cases: Mapping[str, tuple[float, float]], text: str = "", title: str = "Does the score rank the cases?"
) -> Figure:
    """The agreement of attention and mask of every case against its Dice.

    Args:
        cases: case to (score, Dice); cases with nan are left out.
        text: a line below the title, such as the rank correlation with its interval.
        title: title above the chart.
    Returns: the figure.
    """
    known = [pair for pair in cases.values() if all(isfinite(value) for value in pair)]
    figure = chart(CHART_WIDTH, 4.6)
    axes = figure.subplots()
    axes.scatter(
        [score for score, _ in known],
        [dice for _, dice in known],
        s=24,
        color=color_of(1),
        edgecolors=INK,
        linewidths=0.5,
        zorder=3,
    )
    tidy(axes, xlabel="agreement of attention and mask", title=f"{title}\n" if text else title)
    if text:
        axes.text(0.0, 1.02, text, transform=axes.transAxes, color=INK, fontsize=9, va="bottom")
    axes.set_ylabel("Dice", color=INK)
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_ylim(top=1.02)
    return figure


def _grouped(groups: Sequence[str]) -> tuple[list[float], dict[str, float]]:
    """A position for every row, with a gap before each group; and the middle of each group."""
    places: list[float] = []
    for index, group in enumerate(groups):
        gap = 0.0 if not index else 1.0 if group == groups[index - 1] else 1.8
        places.append((places[-1] if places else 0.0) + gap)
    members: dict[str, list[float]] = {}
    for group, place in zip(groups, places, strict=True):
        members.setdefault(group, []).append(place)
    return places, {group: sum(rows) / len(rows) for group, rows in members.items()}


def _intervals(axes: Axes, entries: Iterable[tuple[float, ...]], color: str, width: float = 1.1) -> None:
    """A horizontal line from the lower to the upper end of each (position, mean, low, high)."""
    for place, _, low, high in entries:
        if isfinite(low) and isfinite(high):
            axes.plot([low, high], [place, place], color=color, linewidth=width, solid_capstyle="butt", zorder=2)


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis around 1 with plain numbers as tick labels."""
    axes.set_xscale("log")
    low, high = min([0.8, *values]) / 1.12, max([1.25, *values]) * 1.12
    axes.set_xlim(low, high)
    steps = next(subs for ratio, subs in _STEPS.items() if high / low <= ratio)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _finish_rows(axes: Axes, ticks: Mapping[str, float], places: Sequence[float], *, title: str, xlabel: str) -> None:
    tidy(axes, xlabel=xlabel, title=title, grid="x")
    axes.set_yticks(list(ticks.values()), list(ticks))
    axes.set_ylim(max(places, default=0.0) + 0.7, -0.7)


def _dot(color: str, label: str) -> Line2D:
    return Line2D([], [], color=color, linewidth=2.2, marker="o", markersize=6, markeredgecolor=INK, label=label)
