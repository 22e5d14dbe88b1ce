"""Where windows lie: evenly spread, in order along one axis, so that what lies behind them is finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, prod
from typing import NamedTuple, Self

import numpy as np

__all__ = ["Group", "Tiling", "Triple", "window_starts"]

Triple = tuple[int, int, int]


class Group(NamedTuple):
    """Windows, by their first voxels, that are run one after the other; after them all planes before `done` are."""

    starts: list[Triple]
    done: int


@dataclass(frozen=True)
class Tiling:
    """Windows over a grid. Where the grid is smaller than the patch, one window reaches beyond both its ends.

    Args: shape of the grid; patch; first voxels along each axis, from `-margin`; the axes in the order in which windows
        follow each other, the slowest first; windows that are left out.
    """

    shape: Triple
    patch: Triple
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    axes: Triple
    left_out: frozenset[Triple] = frozenset()

    @classmethod
    def of(cls, shape: Triple, patch: Triple, step: float, axes: Triple | None = None) -> Self:
        """At most `step` patches apart, the slowest axis that with most windows, unless told: the least memory."""
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
    """First voxel of each window along each axis: evenly spread, at most `step` patches apart, ending at the edge."""
    return tuple(_starts(size, edge, step) for size, edge in zip(shape, patch, strict=True))


def _starts(size: int, edge: int, step: float) -> list[int]:
    if size <= edge:
        return [0]
    count = ceil((size - edge) / max(1.0, edge * step)) + 1
    return [round(position) for position in np.linspace(0, size - edge, count)]


def _by_length(shape: Triple, patch: Triple) -> Triple:
    """The axis that is longest in patches first: the planes between its windows are the smallest."""
    i, j, k = sorted(range(3), key=lambda axis: -shape[axis] / patch[axis])
    return i, j, k
