"""Overlays: images with masks and attention drawn on them."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from matplotlib.artist import Artist
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from attunet.data.volume import Volume
from attunet.report.overlay_data import OverlayData, overlay_data
from attunet.report.panels import attention_scale, draw_attention, draw_image
from attunet.report.theme import PALE, PanelGrid, color_of, legend_columns

__all__ = ["draw_overlay", "overlay"]

LARGEST = {"row": (11.0, 3.8), "column": (2.7, 3.4), "picture": (6.0, 5.0)}
"""Width of panels in inches: a row of planes together, one plane in a column, a single picture."""

WIDEST = 16.0
"""Total width of all columns in inches; with many gates, each column is narrower."""

TITLE_BAND, SCALE_BAND, LEGEND_LINE = 0.38, 0.85, 0.26
MAX_LABELS = 24


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
    """Draw a segmentation on its image: three planes of a volume through one point of it, or the picture itself.

    Args:
        image: the image; a picture with three channels is shown in colour, of other images the first channel is shown.
        segmentation: one channel of label values, filled and outlined in a colour per label.
        labels: label name to value, in the order of their colours; the background is not drawn.
        reference: the reference mask, drawn as a dashed outline.
        attention: gate to coefficients in [0, 1]; each map has a column.
        modality: "ct" shows the abdominal window, anything else the percentiles of the image.
        title: title above the figure.
    Returns: the figure.
    Raises: GeometryError when the shapes differ.
    """
    data = overlay_data(image, segmentation, labels, reference=reference, attention=attention or {}, modality=modality)
    return draw_overlay(data, title)


def draw_overlay(data: OverlayData, title: str = "") -> Figure:
    """The figure of an overlay: its planes side by side, or below each other with attention at their side."""
    return _columns(data, title) if data.attention else _row(data, title)


def _row(data: OverlayData, title: str) -> Figure:
    """The planes side by side, on one scale."""
    sizes = [data.extent(plane) for plane in data.slices]
    widest, tallest = LARGEST["row" if len(sizes) > 1 else "picture"]
    scale = min(widest / sum(width for width, _ in sizes), tallest / max(height for _, height in sizes))
    widths, height = [scale * width for width, _ in sizes], scale * max(height for _, height in sizes)
    entries = _legend_entries(data)
    columns = legend_columns([str(entry.get_label()) for entry in entries], sum(widths))
    grid = PanelGrid(widths, [height], top=_title_band(title), right=0.0, bottom=_legend_band(entries, columns))
    for column, plane in enumerate(data.slices):
        draw_image(grid.panel(0, column), data, plane)
    return _finish(grid, title, entries, columns)


def _columns(data: OverlayData, title: str) -> Figure:
    """A row for each plane: the overlay, then every attention map."""
    sizes = [data.extent(plane) for plane in data.slices]
    widest, tallest = LARGEST["column"]
    widest = min(widest, WIDEST / (1 + len(data.attention)))
    scale = min(widest / max(width for width, _ in sizes), tallest / max(height for _, height in sizes))
    widths = [scale * max(width for width, _ in sizes)] * (1 + len(data.attention))
    heights = [scale * height for _, height in sizes]
    entries = _legend_entries(data)
    columns = legend_columns([str(entry.get_label()) for entry in entries], sum(widths))
    bottom = _legend_band(entries, columns)
    grid = PanelGrid(widths, heights, top=_title_band(title), right=SCALE_BAND, bottom=bottom)
    for row, plane in enumerate(data.slices):
        draw_image(grid.panel(row, 0), data, plane)
        for column, (name, coefficients) in enumerate(data.attention.items(), start=1):
            axes = grid.panel(row, column)
            draw_attention(axes, data, plane, coefficients)
            if row == 0:
                axes.set_title(name, color=PALE, fontsize=min(10.0, 110 * widths[0] / len(name)))
    _add_scale(grid, bottom)
    return _finish(grid, title, entries, columns)


def _add_scale(grid: PanelGrid, bottom: float) -> None:
    """The colour bar, in the middle of the right band, at most 3.2 inches long."""
    below = grid.height - grid.MARGIN - bottom
    free = below - grid.MARGIN - grid.CAPTION
    length = min(free, 3.2)
    middle = grid.MARGIN + grid.CAPTION + free / 2
    axes = grid.place(grid.width - grid.MARGIN - SCALE_BAND + 0.18, middle + length / 2, 0.13, length)
    attention_scale(grid.figure, axes)


def _legend_entries(data: OverlayData) -> list[Artist]:
    visible = list(data.visible().items())
    entries: list[Artist] = [
        Patch(facecolor=(*to_rgb(color_of(place)), 0.6), edgecolor=color_of(place), label=name)
        for name, place in visible[:MAX_LABELS]
    ]
    if len(visible) > MAX_LABELS:
        entries.append(Patch(alpha=0.0, label=f"and {len(visible) - MAX_LABELS} more"))
    if data.reference is not None:
        entries.append(Line2D([], [], color="white", linestyle="dashed", linewidth=1.0, label="reference"))
    return entries


def _legend_band(entries: list[Artist], columns: int) -> float:
    return LEGEND_LINE * ceil(len(entries) / columns) + 0.1 if entries else 0.0


def _title_band(title: str) -> float:
    return TITLE_BAND if title else 0.0


def _finish(grid: PanelGrid, title: str, entries: list[Artist], columns: int) -> Figure:
    if title:
        size = min(12.0, 110.0 * grid.width / len(title))
        y = 1 - (grid.MARGIN + 0.05) / grid.height
        grid.figure.suptitle(title, y=y, va="top", color=PALE, fontsize=size, fontweight="bold")
    if entries:
        grid.figure.legend(
            handles=entries,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.08 / grid.height),
            ncols=columns,
            frameon=False,
            labelcolor=PALE,
            fontsize=9,
        )
    return grid.figure
