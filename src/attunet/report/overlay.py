"""Images with masks and attention drawn on them."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from attunet.data.volume import Array, Volume
from attunet.report.scene import Scene, compose
from attunet.report.theme import PALE, Screen, color_of
from attunet.report.views import PICTURE, Plane

__all__ = ["overlay"]

FILL = 0.35
ATTENTION_COLORS = "inferno"
LARGEST = {"row": (11.0, 3.8), "column": (2.7, 3.4), "picture": (6.0, 5.0)}
"""Inches that panels may take: a row of planes together, one of a column, a lone picture."""

TITLE_BAND, SCALE_BAND, LEGEND_LINE = 0.38, 0.85, 0.26
MOST_LABELS = 24


def overlay(
    image: Volume,
    segmentation: Volume,
    labels: Mapping[str, int],
    *,
    reference: Volume | None = None,
    attention: Mapping[str, Volume] | None = None,
    modality: str = "other",
    title: str = "",
) -> Figure:
    """Draw a segmentation on its image: three planes of a volume, or the picture itself.

    Args:
        image: any channels; a picture of three is shown in colour, of others the first channel is shown.
        segmentation: one channel of label values, filled and outlined in a colour per label.
        labels: label name to value, in the order of their colours; the background is not drawn.
        reference: the truth, as a dashed outline.
        attention: name to coefficients in [0, 1], a column each; several channels are averaged.
        modality: "ct" shows the abdominal window, anything else the percentiles of the image.
        title: text above the figure.
    Raises: GeometryError when the shapes differ.
    """
    scene = compose(image, segmentation, labels, reference=reference, attention=attention or {}, modality=modality)
    return _columns(scene, title) if scene.attention else _row(scene, title)


def _row(scene: Scene, title: str) -> Figure:
    """The planes side by side, on one scale."""
    sizes = [scene.extent(plane) for plane in scene.slices]
    widest, tallest = LARGEST["row" if len(sizes) > 1 else "picture"]
    scale = min(widest / sum(width for width, _ in sizes), tallest / max(height for _, height in sizes))
    widths, height = [scale * width for width, _ in sizes], scale * max(height for _, height in sizes)
    entries = _legend_entries(scene)
    columns = _legend_columns(entries, sum(widths))
    screen = Screen(widths, [height], top=_title_band(title), right=0.0, bottom=_legend_band(entries, columns))
    for column, plane in enumerate(scene.slices):
        _draw_image(screen.panel(0, column), scene, plane)
    return _finish(screen, title, entries, columns)


def _columns(scene: Scene, title: str) -> Figure:
    """A row for each plane: the overlay, then every attention map."""
    sizes = [scene.extent(plane) for plane in scene.slices]
    widest, tallest = LARGEST["column"]
    scale = min(widest / max(width for width, _ in sizes), tallest / max(height for _, height in sizes))
    widths = [scale * max(width for width, _ in sizes)] * (1 + len(scene.attention))
    heights = [scale * height for _, height in sizes]
    entries = _legend_entries(scene)
    columns = _legend_columns(entries, sum(widths))
    bottom = _legend_band(entries, columns)
    screen = Screen(widths, heights, top=_title_band(title), right=SCALE_BAND, bottom=bottom)
    for row, plane in enumerate(scene.slices):
        _draw_image(screen.panel(row, 0), scene, plane)
        for column, (name, coefficients) in enumerate(scene.attention.items(), start=1):
            axes = screen.panel(row, column)
            _draw_attention(axes, scene, plane, coefficients)
            if row == 0:
                axes.set_title(name, color=PALE, fontsize=10)
    _add_scale(screen, bottom)
    return _finish(screen, title, entries, columns)


def _draw_image(axes: Axes, scene: Scene, plane: Plane) -> None:
    aspect = plane.aspect(scene.image.spacing)
    mask = scene.cut(scene.segmentation, plane)
    axes.imshow(scene.picture(plane), interpolation="bilinear", aspect=aspect)
    axes.imshow(_fill(mask, scene.labels), interpolation="nearest", aspect=aspect)
    _outline(axes, mask, scene.labels, linestyle="solid", width=1.1)
    if scene.reference is not None:
        truth = scene.cut(scene.reference, plane)
        _outline(axes, truth, scene.labels, linestyle="dashed", width=1.0, color="white")
    axes.set_axis_off()
    _caption(axes, scene, plane)


def _draw_attention(axes: Axes, scene: Scene, plane: Plane, coefficients: Array) -> None:
    axes.imshow(
        scene.cut(coefficients, plane),
        cmap=ATTENTION_COLORS,
        vmin=0.0,
        vmax=1.0,
        aspect=plane.aspect(scene.image.spacing),
    )
    mask = scene.cut(scene.segmentation, plane)
    _outline(axes, mask, scene.labels, linestyle="solid", width=0.8, color="white")
    axes.set_axis_off()


def _fill(mask: Array, labels: Mapping[str, int]) -> Array:
    """(rows, columns, RGBA), transparent where no label is."""
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


def _caption(axes: Axes, scene: Scene, plane: Plane) -> None:
    """Name the plane, its slice and the sides of the patient."""
    if plane == PICTURE:
        axes.set_title(plane.name, color=PALE, fontsize=10)
        return
    total = scene.image.spatial_shape[plane.axis]
    axes.set_title(f"{plane.name}  {scene.slices[plane] + 1}/{total}", color=PALE, fontsize=10)
    halo = [withStroke(linewidth=2.0, foreground="black")]
    across = axes.transAxes
    axes.text(0.02, 0.5, plane.left, transform=across, color=PALE, fontsize=9, va="center", path_effects=halo)
    axes.text(
        0.5,
        0.98,
        plane.top,
        transform=across,
        color=PALE,
        fontsize=9,
        ha="center",
        va="top",
        path_effects=halo,
    )


def _add_scale(screen: Screen, bottom: float) -> None:
    """The colour bar, in the middle of the right band and no longer than a hand."""
    below = screen.height - screen.MARGIN - bottom
    free = below - screen.MARGIN - screen.CAPTION
    length = min(free, 3.2)
    middle = screen.MARGIN + screen.CAPTION + free / 2
    axes = screen.place(screen.width - screen.MARGIN - SCALE_BAND + 0.18, middle + length / 2, 0.13, length)
    scale = screen.figure.colorbar(ScalarMappable(Normalize(0.0, 1.0), ATTENTION_COLORS), cax=axes)
    scale.set_label("attention coefficient", color=PALE, fontsize=9)
    axes.tick_params(colors=PALE, labelsize=8, length=2)
    axes.spines[:].set_visible(False)


def _legend_entries(scene: Scene) -> list[Artist]:
    visible = list(scene.visible().items())
    entries: list[Artist] = [
        Patch(facecolor=(*to_rgb(color_of(place)), 0.6), edgecolor=color_of(place), label=name)
        for name, place in visible[:MOST_LABELS]
    ]
    if len(visible) > MOST_LABELS:
        entries.append(Patch(alpha=0.0, label=f"and {len(visible) - MOST_LABELS} more"))
    if scene.reference is not None:
        entries.append(Line2D([], [], color="white", linestyle="dashed", linewidth=1.0, label="reference"))
    return entries


def _legend_columns(entries: list[Artist], width: float) -> int:
    """As many columns as fit into a width in inches, with rows filled evenly."""
    if not entries:
        return 1
    longest = max(len(str(entry.get_label())) for entry in entries)
    fitting = max(1, int(width / (0.65 + 0.08 * longest)))
    return ceil(len(entries) / ceil(len(entries) / fitting))


def _legend_band(entries: list[Artist], columns: int) -> float:
    return LEGEND_LINE * ceil(len(entries) / columns) + 0.1 if entries else 0.0


def _title_band(title: str) -> float:
    return TITLE_BAND if title else 0.0


def _finish(screen: Screen, title: str, entries: list[Artist], columns: int) -> Figure:
    if title:
        size = min(12.0, 110.0 * screen.width / len(title))
        y = 1 - (screen.MARGIN + 0.05) / screen.height
        screen.figure.suptitle(title, y=y, va="top", color=PALE, fontsize=size, fontweight="bold")
    if entries:
        screen.figure.legend(
            handles=entries,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.08 / screen.height),
            ncols=columns,
            frameon=False,
            labelcolor=PALE,
            fontsize=9,
        )
    return screen.figure
