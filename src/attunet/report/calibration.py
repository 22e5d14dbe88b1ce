"""Figures of calibration: confidence against accuracy, expected against measured Dice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import NamedTuple, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attunet.config import QualityCalibration
from attunet.report.theme import CHART_WIDTH, INK, PALETTE, RULE, chart, tidy

__all__ = ["Bins", "DicePair", "dice_scatter", "reliability_diagram"]

_COLORS = (PALETTE[0], PALETTE[5])


class DicePair(NamedTuple):
    """Mean Dice of a case, expected by the model and measured; nan if there is none."""

    expected: float
    measured: float


class Bins(Protocol):
    """Confidence, accuracy and share of voxels in bins from 0 to 1, and the calibration error."""

    @property
    def confidence(self) -> Sequence[float]:
        """Mean confidence in each bin; nan in an empty one."""
        ...

    @property
    def accuracy(self) -> Sequence[float]:
        """Share of correct decisions in each bin; nan in an empty one."""
        ...

    @property
    def share(self) -> Sequence[float]:
        """Share of all voxels in each bin."""
        ...

    @property
    def ece(self) -> float:
        """Expected calibration error."""
        ...


def reliability_diagram(curves: Mapping[str, Bins]) -> Figure:
    """Share of correct decisions by confidence, one line for each name; below, the frequency of each confidence.

    A calibrated model lies on the diagonal; below the diagonal it is overconfident.
    """
    figure = chart(CHART_WIDTH, 5.6)
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    _diagonal(upper)
    for position, (name, bins) in enumerate(curves.items()):
        pairs = zip(bins.confidence, bins.accuracy, bins.share, strict=True)
        points = [(x, y) for x, y, share in pairs if share > 0]
        upper.plot(
            *zip(*points, strict=True),
            marker="o",
            markersize=4.5,
            linewidth=1.6,
            color=_COLORS[position % 2],
            label=f"{name}: ECE {bins.ece:.4f}",
        )
        _shares(lower, bins, position, len(curves))
    tidy(upper, title="Correct decisions by confidence")
    upper.set_ylim(0.0, 1.02)
    upper.legend(frameon=False, fontsize=9, loc="upper left", labelcolor=INK)
    tidy(lower, xlabel="confidence", title="Share of the voxels near the foreground")
    lower.set_xlim(0.0, 1.02)
    return figure


def dice_scatter(dice: Mapping[str, DicePair], quality: QualityCalibration | None) -> Figure:
    """Every case's expected and measured Dice, and the regression line."""
    figure = chart(CHART_WIDTH, 4.8)
    axes = figure.subplots()
    known = [pair for pair in dice.values() if isfinite(pair.expected) and isfinite(pair.measured)]
    _diagonal(axes)
    lowest = min((min(pair) for pair in known), default=0.0)
    if quality is not None:
        ends = (min(pair.expected for pair in known), max(pair.expected for pair in known))
        line = [quality.slope * end + quality.intercept for end in ends]
        axes.plot(ends, line, color=_COLORS[1], linewidth=1.8, label="predicted Dice")
        axes.legend(frameon=False, fontsize=9, loc="upper left", labelcolor=INK)
    axes.scatter(
        [pair.expected for pair in known],
        [pair.measured for pair in known],
        s=20,
        color=_COLORS[0],
        edgecolors=INK,
        linewidths=0.5,
        zorder=3,
    )
    tidy(axes, xlabel="Dice expected by the model", title="Measured Dice of every case")
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    start = max(-0.02, lowest - 0.05)
    axes.set_xlim(start, 1.02)
    axes.set_ylim(start, 1.02)
    return figure


def _diagonal(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle="dashed")


def _shares(axes: Axes, bins: Bins, position: int, count: int) -> None:
    width = 1 / len(bins.share)
    lefts = [(index + position / count) * width for index in range(len(bins.share))]
    axes.bar(lefts, bins.share, width=0.9 * width / count, align="edge", color=_COLORS[position % 2])
