"""Notebook views of volumes, predictions, plans and scores: a figure, or a small table and picture in HTML.

`attunet.display` describes how the values find this module. The HTML sets no text or page colours, so that it is
readable in light and dark notebooks; its pictures have a background of their own.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import singledispatch
from html import escape
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attunet.config import Plan, interval_text
from attunet.data.volume import Volume
from attunet.display import decimals
from attunet.evaluation.metrics import TABULATED
from attunet.evaluation.summary import Summary
from attunet.inference.prediction import Prediction
from attunet.report.cells import NOTHING, mean_cells, number, score_cells
from attunet.report.figures import overlay, score_boxes
from attunet.report.theme import CHART_WIDTH, INK, PALETTE, chart, png, tidy

__all__ = ["draw", "html_fragment", "to_html"]

MAX_VOXELS = {"figure": 512, "thumbnail": 160}
"""Largest number of voxels along an axis; larger volumes are subsampled."""

THUMBNAIL_DPI = 60

_AXES = ("left–right", "front–back", "up–down")
_STYLE = "border-bottom:1px solid rgba(128,128,128,.4);padding:.15em .8em .15em 0;text-align:"


@singledispatch
def draw(value: object) -> Figure:
    """The figure of a value. Raises: TypeError for a type without a view."""
    raise TypeError(f"there is no figure of a {type(value).__name__}")


@singledispatch
def to_html(value: object) -> str:
    """A small table and picture of a value as an HTML fragment. Raises: TypeError for a type without a view."""
    raise TypeError(f"there is no HTML view of a {type(value).__name__}")


def html_fragment(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], figure: Figure | None, *, notes: str = ""
) -> str:
    """Compose a title, a table and a small inline picture; all text is escaped.

    Args:
        title: one line above the table.
        columns: headings; empty for a table without headings.
        rows: cells; the first of each row is aligned left, the others right when there are headings.
        figure: figure to draw below the table, small; None for no picture.
        notes: text below the table.
    Returns: an HTML fragment without scripts and external files.
    """
    head = f"<thead>{_row('th', columns, columns)}</thead>" if columns else ""
    body = "".join(_row("td", row, columns) for row in rows)
    image = ""
    if figure is not None:
        data = base64.b64encode(png(figure, THUMBNAIL_DPI)).decode("ascii")
        image = f'<img alt="{_text(title)}" style="max-width:100%" src="data:image/png;base64,{data}">'
    line = f"<div>{_text(notes)}</div>" if notes else ""
    table = f'<table style="border-collapse:collapse">{head}<tbody>{body}</tbody></table>'
    return f"<div><div><strong>{_text(title)}</strong></div>{table}{line}{image}</div>"


@draw.register
def _(value: Volume) -> Figure:
    return _draw_volume(value, "figure")


@to_html.register
def _(value: Volume) -> str:
    return html_fragment("Volume", (), _volume_rows(value), _draw_volume(value, "thumbnail"))


@draw.register
def _(value: Prediction) -> Figure:
    return _draw_prediction(value, "figure", attention=value.attention)


@to_html.register
def _(value: Prediction) -> str:
    intervals = value.volume_intervals_ml
    rows = [
        [
            label,
            interval_text(ml, intervals[label], 2),
            NOTHING if (dice := value.expected_dice.get(label)) is None else number(dice, 3),
        ]
        for label, ml in value.volumes_ml.items()
    ]
    predicted = value.predicted_dice
    facts = [
        "" if predicted is None else f"predicted mean Dice {interval_text(predicted, value.dice_interval, 3)}",
        *value.warnings,
        value.engine,
    ]
    return html_fragment(
        f"Prediction of {value.case}",
        ("Label", "Volume ml", "Expected Dice"),
        rows,
        _draw_prediction(value, "thumbnail", attention={}),
        notes="; ".join(fact for fact in facts if fact),
    )


@draw.register
def _(value: Plan) -> Figure:
    """Draw the patch inside the median image, on the model grid."""
    names, image, patch = _extents(value)
    flat = value.patch_size[2] == 1
    pairs = [(0, 1)] if flat else list(combinations(range(3), 2))
    figure = chart(CHART_WIDTH * (0.5 if flat else 1.2), 2.9)
    for axes, (across, down) in zip(np.atleast_1d(figure.subplots(1, len(pairs))), pairs, strict=True):
        for size, color, width, name in ((image, INK, 1.4, "median image"), (patch, PALETTE[5], 2.2, "patch")):
            corner = -size[across] / 2, -size[down] / 2
            axes.add_patch(
                Rectangle(corner, size[across], size[down], fill=False, edgecolor=color, linewidth=width, label=name)
            )
        reach = [max(image[axis], patch[axis]) * 0.55 for axis in (across, down)]
        tidy(axes, xlabel=f"{names[across]}, mm", title="")
        axes.set_ylabel(f"{names[down]}, mm", color=INK)
        axes.set_xlim(-reach[0], reach[0])
        axes.set_ylim(-reach[1], reach[1])
        axes.set_aspect("equal")
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return figure


@to_html.register
def _(value: Plan) -> str:
    network = value.network
    rows = [
        ["Labels", ", ".join(value.labels)],
        ["Spacing", f"{_product(value.preprocessing.spacing)} mm"],
        ["Patch", f"{_product(value.patch_size)} voxels, {value.batch_size} in a batch"],
        ["Network", f"{value.preset}, {network.spatial_dims}-D, channels {', '.join(map(str, network.channels))}"],
        ["Gate", network.gate or "none"],
    ]
    return html_fragment(f"Plan of {value.name}", (), rows, draw(value))


@draw.register
def _(value: Summary) -> Figure:
    return score_boxes(value)


@to_html.register
def _(value: Summary) -> str:
    rows = [[label, *score_cells(value, label)] for label in value.labels]
    if len(value.labels) > 1:
        rows.append(["mean", *mean_cells(value)])
    columns = ("Label", *(spec.column for spec in TABULATED))
    return html_fragment(f"Scores of {len(value.cases)} cases", columns, rows, score_boxes(value))


def _volume_rows(volume: Volume) -> list[list[object]]:
    return [
        ["Shape", f"{_product(volume.spatial_shape)}, {volume.channels} channel{'s' * (volume.channels != 1)}"],
        ["Type", volume.array.dtype],
        ["Spacing", f"{_product(volume.spacing)} mm"],
        ["Orientation", volume.orientation],
        ["Range", f"{volume.array.min():g} to {volume.array.max():g}"],
    ]


def _draw_volume(volume: Volume, size: str) -> Figure:
    small = _strided(volume, MAX_VOXELS[size])
    return overlay(small, small.with_array(np.zeros((1, *small.spatial_shape), np.uint8)), {})


def _draw_prediction(prediction: Prediction, size: str, *, attention: Mapping[str, Volume]) -> Figure:
    longest = MAX_VOXELS[size]
    return overlay(
        _strided(prediction.image, longest),
        _strided(prediction.segmentation, longest),
        prediction.labels,
        attention={gate: _strided(maps, longest) for gate, maps in attention.items()},
        title=prediction.case if size == "figure" else "",
    )


def _strided(volume: Volume, longest: int) -> Volume:
    """A view with every n-th voxel along longer axes; the first voxel keeps its position."""
    steps = [-(-size // longest) for size in volume.spatial_shape]
    i, j, k = steps
    return Volume(volume.array[:, ::i, ::j, ::k], volume.affine @ np.diag([*steps, 1.0]))


def _extents(plan: Plan) -> tuple[list[str], list[float], list[float]]:
    """Names of the model axes, and the extent in mm of the median image and of the patch along them."""
    axes = [axis for axis in range(3) if axis != plan.preprocessing.slice_axis] + [plan.preprocessing.slice_axis]
    fingerprint = plan.fingerprint
    image = [fingerprint.median_shape[axis] * fingerprint.median_spacing[axis] for axis in axes]
    patch = [voxels * spacing for voxels, spacing in zip(plan.patch_size, plan.preprocessing.spacing, strict=True)]
    return [_AXES[axis] for axis in axes], image, patch


def _product(numbers: Sequence[float]) -> str:
    return " × ".join(f"{value:g}" if isinstance(value, int) else decimals(value, 2) for value in numbers)


def _row(tag: str, cells: Sequence[object], columns: Sequence[str]) -> str:
    """A row of a table; the numbers of a table with headings are aligned right."""
    sides = ("right" if place and columns else "left" for place in range(len(cells)))
    styled = (f'<{tag} style="{_STYLE}{side}">{_text(cell)}</{tag}>' for side, cell in zip(sides, cells, strict=True))
    return f"<tr>{''.join(styled)}</tr>"


def _text(value: object) -> str:
    return escape(str(value))
