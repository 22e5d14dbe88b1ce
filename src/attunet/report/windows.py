"""Which windows of a case a cascade runs: planes of the scan with the region of the localizer and the windows in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from attunet.data.preprocess import prepare
from attunet.data.volume import Array, Spacing, Volume
from attunet.inference.case import CasePlan
from attunet.inference.member import MemberCase
from attunet.report.theme import PALE, PALETTE, PanelGrid, legend_columns
from attunet.report.views import PICTURE, Plane, cut, focus, planes_of, window

__all__ = ["WindowMap", "WindowPanel", "draw_windows", "window_map"]

Rectangles = tuple[tuple[int, int, int, int], ...]

_LARGEST = (11.0, 4.6)
"""Width of all panels together, and height of the highest, in inches."""
_DIMMED = 0.4
"""Brightness of what no window covers."""
_REGION, _WINDOW = PALETTE[0], PALETTE[1]


@dataclass(frozen=True)
class WindowPanel:
    """One plane of a case on the model grid.

    Args:
        plane: the plane.
        picture: uint8 (rows, columns), the image.
        region: boolean (rows, columns), where the localizer allows labels; None for everywhere.
        windows: left column, upper row, width and height of each window that is run and crosses the plane.
        extent: width and height in mm.
    """

    plane: Plane
    picture: Array
    region: Array | None
    windows: Rectangles
    extent: tuple[float, float]


@dataclass(frozen=True)
class WindowMap:
    """The windows that each network of a cascade runs in a case, and those that it skips.

    Args:
        run: number of windows that are run.
        skipped: number of windows that are skipped because the localizer found nothing near them.
        air: number of windows that are skipped because they contain only air.
        panels: planes through the region.
    """

    run: int
    skipped: int
    air: int
    panels: tuple[WindowPanel, ...] = ()

    @property
    def share_skipped(self) -> float:
        """The share of all windows that is not run, between 0 and 1."""
        return (self.skipped + self.air) / max(1, self.run + self.skipped + self.air)

    def __str__(self) -> str:
        """The numbers in words, such as "12 of 60 windows run (80% skipped)"."""
        text = f"{self.run} of {self.run + self.skipped + self.air} windows run ({self.share_skipped:.0%} skipped"
        return f"{text}, {self.air} of them air)" if self.air else f"{text})"

    def to_json(self) -> dict[str, float]:
        """The numbers."""
        counts = {"run": self.run, "skipped": self.skipped, "air": self.air}
        return {**counts, "share_skipped": round(self.share_skipped, 4)}


def window_map(plan: CasePlan, image: Volume) -> WindowMap | None:
    """The windows of a planned case.

    Args:
        plan: the case; of an ensemble, the first member that is a cascade is shown, and all are counted.
        image: its image, which determines the planes.
    Returns: the counts and the planes; None when no member is a cascade.
    """
    cascades = [case for case in plan.members if case.found is not None]
    if not cascades:
        return None
    return WindowMap(
        run=sum(len(case.tiling) for case in cascades),
        skipped=sum(case.skipped_windows for case in cascades),
        air=sum(case.air_windows for case in cascades),
        panels=tuple(_panels(cascades[0], image)),
    )


def draw_windows(shown: WindowMap, title: str = "") -> Figure:
    """Draw the planes side by side: dimmed where no window is run, with the outline of the region and the windows.

    Args: the windows, with at least one plane; title above the figure, before the numbers.
    """
    widths, heights = zip(*(panel.extent for panel in shown.panels), strict=True)
    scale = min(_LARGEST[0] / sum(widths), _LARGEST[1] / max(heights))
    entries = [
        Line2D([], [], color=_WINDOW, linewidth=0.9, label="window that is run"),
        Line2D([], [], color=_REGION, linewidth=1.6, label="region of the localizer"),
        Patch(facecolor="#333333", label="skipped (dimmed)"),
    ]
    columns = legend_columns([str(entry.get_label()) for entry in entries], scale * sum(widths))
    bottom = 0.26 * -(-len(entries) // columns) + 0.1
    grid = PanelGrid([scale * width for width in widths], [scale * max(heights)], top=0.38, right=0.0, bottom=bottom)
    for column, panel in enumerate(shown.panels):
        _draw(grid.panel(0, column), panel)
    text = f"{title}: {shown}" if title else str(shown)
    top = 1 - (grid.MARGIN + 0.05) / grid.height
    grid.figure.suptitle(text, y=top, va="top", color=PALE, fontsize=min(12.0, 110 * grid.width / len(text)))
    where = (0.5, 0.08 / grid.height)
    style = {"frameon": False, "fontsize": 9, "labelcolor": PALE, "loc": "lower center", "bbox_to_anchor": where}
    grid.figure.legend(handles=entries, ncols=columns, **style)
    return grid.figure


def _draw(axes: Axes, panel: WindowPanel) -> None:
    covered = np.zeros(panel.picture.shape, bool)
    for left, top, width, height in panel.windows:
        covered[top : top + height, left : left + width] = True
    grey = panel.picture / 255 * np.where(covered, 1.0, _DIMMED)
    rows, columns = panel.picture.shape
    aspect = panel.extent[1] / rows * columns / panel.extent[0]
    axes.imshow(np.repeat(grey[..., None], 3, axis=2), interpolation="bilinear", aspect=aspect)
    for left, top, width, height in panel.windows:
        axes.add_patch(
            Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=_WINDOW, linewidth=0.7, alpha=0.8)
        )
    if panel.region is not None and panel.region.any():
        # a rim of background closes the outline at the border of the image
        inside = np.pad(panel.region, 1).astype(float)
        axes.contour(
            np.arange(-1, columns + 1), np.arange(-1, rows + 1), inside, levels=[0.5], colors=[_REGION], linewidths=1.4
        )
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_axis_off()
    axes.set_title(panel.plane.name, color=PALE, fontsize=10)


def _panels(case: MemberCase, volume: Volume) -> Iterable[WindowPanel]:
    """The planes through the place where the region is largest, or through the middle, in right, front and up axes."""
    record, tiling = case.prepared.record, case.tiling
    whole = prepare(volume, record.preprocessing).array  # the case has only what its windows see
    worlds = sorted(range(3), key=lambda world: world == record.preprocessing.slice_axis)  # see `canonical`
    order = [worlds.index(world) for world in range(3)]
    shape = [record.model_shape[axis] for axis in order]
    spacing = _spacing(case, order)
    point = [size // 2 for size in shape]
    if tiling.region is not None:
        coarse = tiling.region.mask.transpose(order)
        places = zip(focus(coarse), coarse.shape, shape, strict=True)
        point = [min(size - 1, int((place + 0.5) * size / edge)) for place, edge, size in places]
    for plane in planes_of(volume):
        index, across = point[plane.axis], order[plane.axis]
        box = [slice(0, size) for size in record.model_shape]
        box[across] = slice(index, index + 1)
        i, j, k = box
        image = cut(whole[0, i, j, k].transpose(order), plane, 0)
        low, high = window(image)
        grey = np.rint(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
        inside = None
        if tiling.region is not None:
            inside = cut(tiling.region.part(i, j, k, (0, 1, 2)).transpose(order), plane, 0)
        boxes = [box for box in map(tiling.box, tiling) if box[across].start <= index < box[across].stop]
        windows = dict.fromkeys(_rectangle([box[axis] for axis in order], plane, shape) for box in boxes)
        extent = plane.extent((shape[0], shape[1], shape[2]), spacing)
        yield WindowPanel(plane, grey, inside, tuple(windows), extent)


def _spacing(case: MemberCase, order: list[int]) -> Spacing:
    """Voxel size of the model grid in mm, in right, front and up axes."""
    edges = case.prepared.record.preprocessing.spacing
    x, y, z = (edges[axis] for axis in order)
    return x, y, z


def _rectangle(box: list[slice], plane: Plane, shape: list[int]) -> tuple[int, int, int, int]:
    """Left column, upper row, width and height of a box in a plane, as `cut` shows it."""
    first, second = (axis for axis in range(3) if axis != plane.axis)
    box = [slice(part.start, min(part.stop, size)) for part, size in zip(box, shape, strict=True)]
    if plane == PICTURE:
        across, down = box[second], box[first]
        left, top = across.start, down.start
    else:
        across, down = box[first], box[second]
        left, top = shape[first] - across.stop, shape[second] - down.stop
    return left, top, across.stop - across.start, down.stop - down.start
