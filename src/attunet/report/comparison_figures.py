"""Figures of a comparison: box plots of Dice by label and model, and a forest plot of the differences."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from attunet.evaluation.comparison import ALL_LABELS, ModelComparison
from attunet.evaluation.paired import PairedTest
from attunet.report.figures import draw_box
from attunet.report.theme import INK, chart, color_of, tidy

__all__ = ["MAX_LABELS", "difference_forest", "model_boxes", "shown_labels"]

MAX_LABELS = 12
"""Largest number of labels; more do not fit on one screen."""

_ROW = 0.3
_GROUP = 0.25


def shown_labels(comparison: ModelComparison) -> tuple[str, ...]:
    """The labels to draw: all, or those whose Dice differs most, and the mean of the labels last."""
    rows = comparison.baseline.row_labels
    labels = [label for label in rows if label != ALL_LABELS]
    if len(labels) > MAX_LABELS:
        largest = {label: _largest(comparison, label) for label in labels}
        chosen = sorted(labels, key=lambda label: -largest[label])[:MAX_LABELS]
        labels = [label for label in labels if label in chosen]
    return (*labels, *rows[len(rows) - (ALL_LABELS in rows) :])


def model_boxes(comparison: ModelComparison, labels: Sequence[str]) -> Figure:
    """One box per label and model with its quartiles, and a point per case."""
    models = comparison.models
    single = [label for label in labels if label != ALL_LABELS]
    figure, axes, places = _rows(single, len(models))
    for label, start in zip(single, places, strict=True):
        for index, model in enumerate(models):
            draw_box(
                axes,
                start + index * _ROW,
                list(model.summary.values(label).values()),
                color_of(index),
                width=0.8 * _ROW,
                size=11,
            )
    tidy(axes, xlabel="Dice", title="Dice per label, model and case", grid="x")
    low = min(
        (value for label in single for model in models for value in model.summary.values(label).values()), default=0
    )
    axes.set_xlim(max(-0.02, low - 0.05), 1.01)
    handles = [Patch(facecolor=color_of(index), alpha=0.6, label=model.name) for index, model in enumerate(models)]
    _legend(axes, handles)
    return figure


def difference_forest(comparison: ModelComparison, labels: Sequence[str]) -> Figure:
    """A point and its 95% interval per label and other model; filled if the difference is significant."""
    others = comparison.models[1:]
    figure, axes, places = _rows(labels, len(others))
    for label, start in zip(labels, places, strict=True):
        for index, other in enumerate(others):
            test = comparison.difference(other.name, label)
            _interval(axes, start + index * _ROW, test, color_of(index + 1))
    axes.axvline(0.0, color=INK, linewidth=1.0)
    first = comparison.baseline.name
    tidy(axes, xlabel=f"← other model better        Dice        {first} better →", grid="x", title=f"{first} minus …")
    reach = 1.15 * max((abs(end) for end in axes.get_xlim()), default=0.0)
    axes.set_xlim(-reach, reach)
    handles = [
        Line2D([], [], color=color_of(index + 1), marker="o", label=other.name) for index, other in enumerate(others)
    ]
    _legend(axes, handles)
    return figure


def _rows(labels: Sequence[str], models: int) -> tuple[Figure, Axes, list[float]]:
    """A chart with a group of rows for each label, and the position of each group."""
    group = models * _ROW + _GROUP
    figure = chart(8.0, 1.5 + group * max(len(labels), 1))
    axes = figure.subplots()
    places = [index * group for index in range(len(labels))]
    axes.set_yticks([start + (models - 1) * _ROW / 2 for start in places], labels)
    axes.set_ylim(max(len(labels), 1) * group - _GROUP, -_ROW)
    return figure, axes, places


def _legend(axes: Axes, handles: Sequence[Patch | Line2D]) -> None:
    """A legend above the chart at the right, where there are no data."""
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=min(len(handles), 4),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        borderaxespad=0.2,
    )


def _interval(axes: Axes, row: float, test: PairedTest, color: str) -> None:
    if not test.cases:
        return
    if not isnan(test.low):
        axes.plot([test.low, test.high], [row, row], color=color, linewidth=2.4, solid_capstyle="butt")
    fill = color if test.decided else "white"
    axes.plot([test.mean], [row], marker="o", markersize=7, color=color, markerfacecolor=fill, markeredgewidth=1.6)


def _largest(comparison: ModelComparison, label: str) -> float:
    means = (comparison.difference(other.name, label).mean for other in comparison.models[1:])
    return max((abs(mean) for mean in means if not isnan(mean)), default=0.0)
