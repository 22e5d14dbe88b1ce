"""Prediction intervals in a report: a table of their widths and coverage, and the held-out volumes inside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attunet.config import IntervalCalibration, Postprocessing
from attunet.evaluation.summary import Summary
from attunet.evaluation.volumes import VolumePair, volume_pairs
from attunet.report.cells import NOTHING, number
from attunet.report.html import Picture, Section, Table
from attunet.report.theme import CHART_WIDTH, INK, PALETTE, RULE, chart, tidy

__all__ = ["interval_sections", "volume_scatter"]

_COLUMNS = (
    "Value",
    "Level",
    "Cases",
    "Median",
    "Its interval",
    "Mean width",
    "Inside, leaving out each case",
    "Small, medium, large values",
    "Leaving out each fold",
)
_MOST = 6
_ROW = 3


def interval_sections(postprocessing: Postprocessing, postprocessed: Summary) -> list[Section]:
    """The table and the figure of the intervals; empty when there are none.

    Args:
        postprocessing: the intervals.
        postprocessed: scores of the held-out cases that they were made from.
    Returns: the sections.
    """
    volumes = postprocessing.volume_intervals
    rows = [_row(f"{label}, ml", calibration) for label, calibration in volumes.items()]
    if postprocessing.dice_interval:
        rows.append(_row("predicted Dice", postprocessing.dice_interval))
    if not rows:
        return []
    sections: list[Section] = [Table("Prediction intervals, and the held-out cases inside them", _COLUMNS, rows)]
    if volumes:
        pairs = volume_pairs(postprocessed.cases, list(volumes))
        more = f", the first {_MOST} of {len(volumes)} labels" if len(volumes) > _MOST else ""
        caption = f"Volumes of the held-out cases and their intervals{more}"
        sections.append(Picture(caption, volume_scatter(volumes, pairs), "volumes"))
    return sections


def volume_scatter(volumes: Mapping[str, IntervalCalibration], pairs: Mapping[str, Sequence[VolumePair]]) -> Figure:
    """True volumes of every case by the predicted ones, and the intervals as a band around the diagonal.

    Args:
        volumes: label to its interval; at most six labels are drawn.
        pairs: label to the volumes of the held-out cases.
    Returns: the figure, a panel for each label.
    """
    labels = list(volumes)[:_MOST]
    lines = -(-len(labels) // _ROW)
    figure = chart(CHART_WIDTH * (1 if len(labels) < _ROW else 1.4), 3.1 * lines)
    panels = np.ravel(figure.subplots(lines, min(_ROW, len(labels)), squeeze=False))
    for axes, label in zip(panels, labels, strict=False):
        _panel(axes, label, volumes[label], pairs[label])
    for axes in panels[len(labels) :]:
        axes.set_visible(False)
    return figure


def _panel(axes: Axes, label: str, calibration: IntervalCalibration, pairs: Sequence[VolumePair]) -> None:
    known = [pair for pair in pairs if pair.predicted > 0]
    inside = [_contains(calibration, pair) for pair in known]
    reach = max([max(pair.predicted, pair.true) for pair in known], default=1.0) * 1.05
    along = np.linspace(reach / 100, reach, 100)
    ends = [calibration.around(float(value)) for value in along]
    axes.fill_between(along, [end.low for end in ends], [end.high for end in ends], color=PALETTE[0], alpha=0.15)
    axes.plot([0, reach], [0, reach], color=INK, linewidth=0.9, linestyle="dashed")
    colors = [PALETTE[0] if within else PALETTE[5] for within in inside]
    points = [pair.predicted for pair in known], [pair.true for pair in known]
    axes.scatter(*points, s=16, color=colors, edgecolors=INK, linewidths=0.4, zorder=3)
    tidy(axes, xlabel="predicted, ml", title=f"{label}: true volume, ml")
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_xlim(0, reach)
    axes.set_ylim(0, reach)


def _contains(calibration: IntervalCalibration, pair: VolumePair) -> bool:
    interval = calibration.around(pair.predicted)
    return interval.low <= pair.true <= interval.high


def _row(name: str, calibration: IntervalCalibration) -> list[object]:
    shown = calibration.around(calibration.typical)
    return [
        name,
        f"{calibration.level:.0%}",
        calibration.cases,
        number(calibration.typical, 3),
        f"{number(shown.low, 3)} to {number(shown.high, 3)}",
        number(calibration.width, 3),
        f"{calibration.coverage:.0%}",
        ", ".join(f"{share:.0%}" for share in calibration.thirds),
        NOTHING if calibration.folds is None else f"{calibration.folds:.0%}",
    ]
