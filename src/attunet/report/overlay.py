"""Images with masks and attention drawn on them."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from matplotlib.artist import Artist
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from attunet.data.volume import Volume
from attunet.report.panels import attention_scale, draw_attention, draw_image
from attunet.report.scene import Scene, compose
from attunet.report.theme import PALE, Screen, color_of, legend_columns

__all__ = ["draw_scene", "overlay"]

LARGEST = {"row": (11.0, 3.8), "column": (2.7, 3.4), "picture": (6.0, 5.0)}
"""Inches that panels may take: a row of planes together, one of a column, a lone picture."""

WIDEST = 16.0
"""Inches that all columns may take together: those of many gates are smaller."""

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
    """Draw a segmentation on its image: three planes of a volume through one point of it, or the picture itself.

    Args:
        image: any channels; a picture of three is shown in colour, of others the first channel is shown.
        segmentation: one channel of label values, filled and outlined in a colour per label.
        labels: label name to value, in the order of their colours; the background is not drawn.
        reference: the truth, as a dashed outline.
        attention: gate to coefficients in [0, 1], a column each, and one for each map of a gate that has several.
        modality: "ct" shows the abdominal window, anything else the percentiles of the image.
        title: text above the figure.
    Raises: GeometryError when the shapes differ.
    """
    scene = compose(image, segmentation, labels, reference=reference, attention=attention or {}, modality=modality)
    return draw_scene(scene, title)


def draw_scene(scene: Scene, title: str = "") -> Figure:
    """The figure of a scene: its planes side by side, or below each other where there is attention beside them."""
    return _columns(scene, title) if scene.attention else _row(scene, title)


def _row(scene: Scene, title: str) -> Figure:
    """The planes side by side, on one scale."""
    sizes = [scene.extent(plane) for plane in scene.slices]
    widest, tallest = LARGEST["row" if len(sizes) > 1 else "picture"]
    scale = min(widest / sum(width for width, _ in sizes), tallest / max(height for _, height in sizes))
    widths, height = [scale * width for width, _ in sizes], scale * max(height for _, height in sizes)
    entries = _legend_entries(scene)
    columns = legend_columns([str(entry.get_label()) for entry in entries], sum(widths))
    screen = Screen(widths, [height], top=_title_band(title), right=0.0, bottom=_legend_band(entries, columns))
    for column, plane in enumerate(scene.slices):
        draw_image(screen.panel(0, column), scene, plane)
    return _finish(screen, title, entries, columns)


def _columns(scene: Scene, title: str) -> Figure:
    """A row for each plane: the overlay, then every attention map."""
    sizes = [scene.extent(plane) for plane in scene.slices]
    widest, tallest = LARGEST["column"]
    widest = min(widest, WIDEST / (1 + len(scene.attention)))
    scale = min(widest / max(width for width, _ in sizes), tallest / max(height for _, height in sizes))
    widths = [scale * max(width for width, _ in sizes)] * (1 + len(scene.attention))
    heights = [scale * height for _, height in sizes]
    entries = _legend_entries(scene)
    columns = legend_columns([str(entry.get_label()) for entry in entries], sum(widths))
    bottom = _legend_band(entries, columns)
    screen = Screen(widths, heights, top=_title_band(title), right=SCALE_BAND, bottom=bottom)
    for row, plane in enumerate(scene.slices):
        draw_image(screen.panel(row, 0), scene, plane)
        for column, (name, coefficients) in enumerate(scene.attention.items(), start=1):
            axes = screen.panel(row, column)
            draw_attention(axes, scene, plane, coefficients)
            if row == 0:
                axes.set_title(name, color=PALE, fontsize=min(10.0, 110 * widths[0] / len(name)))
    _add_scale(screen, bottom)
    return _finish(screen, title, entries, columns)


def _add_scale(screen: Screen, bottom: float) -> None:
    """The colour bar, in the middle of the right band and no longer than a hand."""
    below = screen.height - screen.MARGIN - bottom
    free = below - screen.MARGIN - screen.CAPTION
    length = min(free, 3.2)
    middle = screen.MARGIN + screen.CAPTION + free / 2
    axes = screen.place(screen.width - screen.MARGIN - SCALE_BAND + 0.18, middle + length / 2, 0.13, length)
    attention_scale(screen.figure, axes)


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
