"""One panel of an overlay: the image with its masks, or a map of attention with the outline of the mask."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure

from attunet.data.volume import Array
from attunet.report.overlay_data import OverlayData
from attunet.report.theme import PALE, color_of
from attunet.report.views import PICTURE, Plane

__all__ = ["ATTENTION_COLORS", "attention_scale", "draw_attention", "draw_image"]

ATTENTION_COLORS = "inferno"
"""Perceptually uniform: equal steps of a coefficient look equal, in grey as well."""

FILL = 0.35
_SIDES = {"facecolor": "black", "edgecolor": "none", "alpha": 0.45, "boxstyle": "round,pad=0.15"}


def draw_image(axes: Axes, data: OverlayData, plane: Plane) -> None:
    """Draw the image, every label filled and outlined, the reference dashed, and thin lines for the other planes.

    Args:
        axes: where to draw.
        data: image and masks.
        plane: one of its planes.
    """
    aspect = plane.aspect(data.image.spacing)
    mask = data.cut(data.segmentation, plane)
    axes.imshow(data.picture(plane), interpolation="bilinear", aspect=aspect)
    axes.imshow(_fill(mask, data.labels), interpolation="nearest", aspect=aspect)
    _outline(axes, mask, data.labels, linestyle="solid", width=1.1)
    if data.reference is not None:
        truth = data.cut(data.reference, plane)
        _outline(axes, truth, data.labels, linestyle="dashed", width=1.0, color="white")
    _crossings(axes, data, plane)
    _remove_axes(axes)
    _caption(axes, data, plane)


def draw_attention(axes: Axes, data: OverlayData, plane: Plane, coefficients: Array) -> None:
    """Draw the attention, black at 0 and bright at 1, with the outline of every label.

    Args:
        axes: where to draw.
        data: image and masks.
        plane: one of its planes.
        coefficients: (I, J, K) in [0, 1], on the grid of the data.
    """
    axes.imshow(
        data.cut(coefficients, plane),
        cmap=ATTENTION_COLORS,
        vmin=0.0,
        vmax=1.0,
        aspect=plane.aspect(data.image.spacing),
    )
    mask = data.cut(data.segmentation, plane)
    _outline(axes, mask, data.labels, linestyle="solid", width=0.8, color="white")
    _remove_axes(axes)


def attention_scale(figure: Figure, axes: Axes) -> None:
    """Turn axes into the colour bar of all attention maps."""
    scale = figure.colorbar(ScalarMappable(Normalize(0.0, 1.0), ATTENTION_COLORS), cax=axes)
    scale.set_label("attention coefficient", color=PALE, fontsize=9)
    axes.tick_params(colors=PALE, labelsize=8, length=2)
    axes.spines[:].set_visible(False)


def _fill(mask: Array, labels: Mapping[str, int]) -> Array:
    """(rows, columns, RGBA), transparent outside the labels."""
    colors = np.zeros((*mask.shape, 4))
    for position, value in enumerate(labels.values()):
        colors[mask == value] = (*to_rgb(color_of(position)), FILL)
    return colors


def _outline(
    axes: Axes, mask: Array, labels: Mapping[str, int], *, linestyle: str, width: float, color: str = ""
) -> None:
    """Draw the border of every label, in its own colour or in the one given."""
    # a rim of background closes the outline where a label touches the border of the image
    rows, columns = (np.arange(-1, length + 1) for length in mask.shape)
    for position, value in enumerate(labels.values()):
        inside = np.pad(mask == value, 1)
        if inside.any():
            axes.contour(
                columns,
                rows,
                inside.astype(float),
                levels=[0.5],
                colors=[color or color_of(position)],
                linewidths=width,
                linestyles=linestyle,
            )
    axes.set_xlim(-0.5, mask.shape[1] - 0.5)
    axes.set_ylim(mask.shape[0] - 0.5, -0.5)


def _remove_axes(axes: Axes) -> None:
    """Remove frame and ticks: hidden ticks would still cost a quarter of the drawing time."""
    axes.set_axis_off()
    axes.set_xticks([])
    axes.set_yticks([])


def _crossings(axes: Axes, data: OverlayData, plane: Plane) -> None:
    columns, rows = data.crosshairs(plane)
    for column in columns:
        axes.axvline(column, color=PALE, linewidth=0.6, alpha=0.55)
    for row in rows:
        axes.axhline(row, color=PALE, linewidth=0.6, alpha=0.55)


def _caption(axes: Axes, data: OverlayData, plane: Plane) -> None:
    """Name the plane, its slice and the sides of the patient."""
    if plane == PICTURE:
        axes.set_title(plane.name, color=PALE, fontsize=10)
        return
    total = data.image.spatial_shape[plane.axis]
    axes.set_title(f"{plane.name}  {data.slices[plane] + 1}/{total}", color=PALE, fontsize=10)
    sides = ((plane.left, 0.02, 0.5, "left", "center"), (plane.top, 0.5, 0.98, "center", "top"))
    for side, x, y, across, down in sides:
        axes.text(x, y, side, ha=across, va=down, transform=axes.transAxes, color=PALE, fontsize=9, bbox=_SIDES)
