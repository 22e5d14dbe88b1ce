"""Where windows lie: evenly spread, in order along one axis, without those that contain only air."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, prod
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from attunet.data.volume import Array

__all__ = ["Group", "Tiling", "Triple", "least_content_height", "window_starts", "without_air"]

Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Floats = npt.NDArray[np.float32]

_SAMPLE = 4  # every fourth voxel along each axis shows most windows with content at once


class Group(NamedTuple):
    """Windows, by their first voxels, that are run one after the other; after them all planes before `done` are."""

    starts: list[Triple]
    done: int


@dataclass(frozen=True)
class Tiling:
    """Windows over a grid. Where the grid is smaller than the patch, one window reaches beyond both its ends.

    Args:
        shape: of the grid.
        patch: voxels of a window along each axis.
        starts: first voxels along each axis, from `-margin`.
        axes: in the order in which windows follow each other, the slowest first.
        left_out: windows that are not run.
    """

    shape: Triple
    patch: Triple
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    axes: Triple
    left_out: frozenset[Triple] = frozenset()

    @classmethod
    def of(cls, shape: Triple, patch: Triple, step: float, axes: Triple | None = None) -> Self:
        """Windows that cover a grid evenly.

        Args:
            shape: of the grid.
            patch: voxels of a window along each axis.
            step: their distance at most, as a share of the patch.
            axes: their order; None for the slowest axis being the one with most windows, which takes the least memory.
        Returns: the windows.
        """
        margins = [max(0, edge - size) // 2 for size, edge in zip(shape, patch, strict=True)]
        grown = tuple(max(size, edge) for size, edge in zip(shape, patch, strict=True))
        spread = window_starts(grown, patch, step)
        i, j, k = (tuple(start - margin for start in starts) for starts, margin in zip(spread, margins, strict=True))
        return cls(shape, patch, (i, j, k), axes or _by_length(shape, patch))

    def __len__(self) -> int:
        """How many windows are run."""
        return prod(map(len, self.starts)) - len(self.left_out)

    def __iter__(self) -> Iterator[Triple]:
        """First voxels of the windows that are run, in their order."""
        return self._rows(self.starts[self.axes[0]], slice(0, self.shape[self.axes[1]]))

    def box(self, start: Triple) -> Box:
        """The voxels of a window that lie on the grid."""
        i, j, k = (slice(max(low, 0), low + edge) for low, edge in zip(start, self.patch, strict=True))
        return i, j, k

    def without(self, left_out: Iterable[Triple]) -> Tiling:
        """The same, less some windows."""
        return replace(self, left_out=self.left_out | frozenset(left_out))

    def groups(self, band: slice, most: int) -> list[Group]:
        """The windows that touch a band of the second axis: rows of equal start, joined up to `most` windows or more.

        Joined rows fill the batches of small cases, whose rows hold a window or two.
        """
        first, size = self.axes[0], self.shape[self.axes[0]]
        groups: list[Group] = []
        held: list[Triple] = []
        for start, after in zip(self.starts[first], (*self.starts[first][1:], size), strict=True):
            row = list(self._rows((start,), band))
            held += row
            if len(held) >= most or after == size or not row:  # what is left out must not make slabs thicker
                groups.append(Group(held, after))
                held = []
        return groups

    def depth(self, groups: Iterable[Group]) -> int:
        """Planes that the windows of any one of the groups and what they left unfinished before take up."""
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
        shape: of the grid.
        patch: voxels of a window along each axis.
        step: their distance at most, as a share of the patch.
    Returns: ascending starts, axis by axis.
    """
    return tuple(_starts(size, edge, step) for size, edge in zip(shape, patch, strict=True))


def without_air(tiling: Tiling, image: Floats, level: float | None) -> Tiling:
    """The tiling without the windows that contain only air; of an image of air, the first window remains.

    Args:
        tiling: the windows.
        image: a prepared image (C, I, J, K).
        level: how far above its minimum a channel must rise in a window that is run; None runs all windows.
    Returns: the tiling that is run.
    """
    if level is None:
        return tiling
    lowest = image.min(axis=(1, 2, 3))
    air = [start for start in tiling if _height(image, tiling.box(start), lowest, level) <= level]
    return tiling.without(air[1:] if len(air) == len(tiling) else air)


def least_content_height(image: Floats, label: Array, tiling: Tiling) -> float:
    """The least height above its minimum that an image reaches in any window with a label.

    Args:
        image: a prepared image (C, I, J, K).
        label: class indices (I, J, K), background 0.
        tiling: the windows.
    Returns: the height, infinite without labels.
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
    """The axis that is longest in patches first: the planes between its windows are the smallest."""
    i, j, k = sorted(range(3), key=lambda axis: -shape[axis] / patch[axis])
    return i, j, k


def _height(image: Floats, box: Box, lowest: Floats, enough: float = float("inf")) -> float:
    """How far any channel rises above its minimum in a window; or less, once that is above `enough`."""
    heights = []
    for channel, low in zip(image, lowest, strict=True):
        window = channel[box]
        height = float(window[::_SAMPLE, ::_SAMPLE, ::_SAMPLE].max() - low)
        heights.append(height if height > enough else float(window.max() - low))
    return max(heights)
