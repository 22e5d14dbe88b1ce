"""The positions of windows: evenly spread, in order along one axis, without those that are skipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, prod
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from attunet.data.volume import Array
from attunet.inference.windows.region import Region

__all__ = ["Group", "Tiling", "Triple", "least_content_height", "window_starts", "without_air"]

Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Floats = npt.NDArray[np.float32]

_SAMPLE = 4  # every fourth voxel along each axis shows most windows with content at once


class Group(NamedTuple):
    """Windows, by their first voxels, that are run one after the other; then all planes before `done` are finished."""

    starts: list[Triple]
    done: int


@dataclass(frozen=True)
class Tiling:
    """Windows over a grid. If the grid is smaller than the patch, one window extends beyond both ends.

    Args:
        shape: shape of the grid.
        patch: size of a window in voxels.
        starts: first voxels along each axis, from `-margin`.
        axes: order of the axes in which windows follow each other, the slowest first.
        left_out: windows to skip.
        region: the part of the grid outside which everything is background; None for the whole grid.
    """

    shape: Triple
    patch: Triple
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    axes: Triple
    left_out: frozenset[Triple] = frozenset()
    region: Region | None = None

    @classmethod
    def of(cls, shape: Triple, patch: Triple, step: float, axes: Triple | None = None) -> Self:
        """Windows that cover a grid evenly.

        Args:
            shape: shape of the grid.
            patch: size of a window in voxels.
            step: largest distance between windows, as a fraction of the patch.
            axes: order of the axes; None puts the axis with most windows first, which needs the least memory.
        Returns: the windows.
        """
        margins = [max(0, edge - size) // 2 for size, edge in zip(shape, patch, strict=True)]
        grown = tuple(max(size, edge) for size, edge in zip(shape, patch, strict=True))
        spread = window_starts(grown, patch, step)
        i, j, k = (tuple(start - margin for start in starts) for starts, margin in zip(spread, margins, strict=True))
        return cls(shape, patch, (i, j, k), axes or _by_length(shape, patch))

    def __len__(self) -> int:
        """The number of windows to run."""
        return prod(map(len, self.starts)) - len(self.left_out)

    def __iter__(self) -> Iterator[Triple]:
        """First voxels of the windows to run, in order."""
        return self._rows(self.starts[self.axes[0]], slice(0, self.shape[self.axes[1]]))

    def box(self, start: Triple) -> Box:
        """The voxels of a window that lie on the grid."""
        i, j, k = (slice(max(low, 0), low + edge) for low, edge in zip(start, self.patch, strict=True))
        return i, j, k

    def within(self, region: Region) -> Tiling:
        """The same tiling without the windows that do not touch a region: inside it, all numbers stay the same."""
        outside = (start for start in self if not region.touches(self.box(start)))
        return replace(self.without(outside), region=region)

    def without(self, left_out: Iterable[Triple]) -> Tiling:
        """The same tiling without some windows."""
        return replace(self, left_out=self.left_out | frozenset(left_out))

    def groups(self, band: slice, most: int) -> list[Group]:
        """The windows that touch a band of the second axis, in rows that are joined until they have `most` windows.

        Joined rows fill the batches of small cases, which have only one or two windows per row.
        """
        first, size = self.axes[0], self.shape[self.axes[0]]
        groups: list[Group] = []
        held: list[Triple] = []
        for start, after in zip(self.starts[first], (*self.starts[first][1:], size), strict=True):
            row = list(self._rows((start,), band))
            held += row
            if len(held) >= most or after == size or not row:  # skipped windows must not make slabs thicker
                groups.append(Group(held, after))
                held = []
        return groups

    def depth(self, groups: Iterable[Group]) -> int:
        """The largest number of planes that the windows of a group and the unfinished planes before them occupy."""
        edge, before, deepest = self.patch[self.axes[0]], 0, 0
        for group in groups:
            last = max((start[self.axes[0]] for start in group.starts), default=before)
            deepest = max(deepest, min(last + edge, self.shape[self.axes[0]]) - before, group.done - before)
            before = group.done
        return deepest

    def _rows(self, slow: Iterable[int], band: slice) -> Iterator[Triple]:
        _, second, third = self.axes
        edge = self.patch[second]
        inside = [start for start in self.starts[second] if start < band.stop and start + edge > band.start]
        for places in product(slow, inside, self.starts[third]):
            i, j, k = (places[self.axes.index(axis)] for axis in range(3))
            if (i, j, k) not in self.left_out:
                yield i, j, k


def window_starts(shape: tuple[int, ...], patch: tuple[int, ...], step: float) -> tuple[list[int], ...]:
    """First voxel of each window along each axis: evenly spread, ending at the edge.

    Args:
        shape: shape of the grid.
        patch: size of a window in voxels.
        step: largest distance between windows, as a fraction of the patch.
    Returns: ascending starts, axis by axis.
    """
    return tuple(_starts(size, edge, step) for size, edge in zip(shape, patch, strict=True))


def without_air(tiling: Tiling, image: Floats, level: float | None) -> Tiling:
    """The tiling without the windows that contain only air; if all do, the first window remains.

    Args:
        tiling: the windows.
        image: a prepared image (C, I, J, K).
        level: height above its minimum that a channel must exceed in a window for it to be run; None runs all windows.
    Returns: the reduced tiling.
    """
    if level is None:
        return tiling
    lowest = image.min(axis=(1, 2, 3))
    air = [start for start in tiling if _height(image, tiling.box(start), lowest, level) <= level]
    return tiling.without(air[1:] if len(air) == len(tiling) else air)


def least_content_height(image: Floats, label: Array, tiling: Tiling) -> float:
    """The least height above its minimum that an image reaches in a window with a label.

    Args:
        image: a prepared image (C, I, J, K).
        label: class indices (I, J, K), background 0.
        tiling: the windows.
    Returns: the height; infinity without labels.
    """
    lowest = image.min(axis=(1, 2, 3))
    boxes = (tiling.box(start) for start in tiling)
    return min((_height(image, box, lowest) for box in boxes if label[box].any()), default=float("inf"))


def _starts(size: int, edge: int, step: float) -> list[int]:
    if size <= edge:
        return [0]
    count = ceil((size - edge) / max(1.0, edge * step)) + 1
    return [round(position) for position in np.linspace(0, size - edge, count)]


def _by_length(shape: Triple, patch: Triple) -> Triple:
    """The axes in order of their length in patches, the longest first: its planes are the smallest."""
    i, j, k = sorted(range(3), key=lambda axis: -shape[axis] / patch[axis])
    return i, j, k


def _height(image: Floats, box: Box, lowest: Floats, enough: float = float("inf")) -> float:
    """How far any channel rises above its minimum in a window; or any value above `enough` if that is exceeded."""
    heights = []
    for channel, low in zip(image, lowest, strict=True):
        window = channel[box]
        height = float(window[::_SAMPLE, ::_SAMPLE, ::_SAMPLE].max() - low)
        heights.append(height if height > enough else float(window.max() - low))
    return max(heights)
