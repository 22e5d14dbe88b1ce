"""`Region`: the part of a fine grid that a localizer points to, kept as a mask of its coarse grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["Region"]

Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

_NOTHING = (slice(0, 0), slice(0, 0))


@dataclass(frozen=True, eq=False)
class Region:
    """A voxel of the fine grid belongs to the region if the nearest voxel of the coarse grid does.

    Args:
        mask: boolean (i, j, k) on the coarse grid, which covers the same extent as the fine one.
        shape: shape of the fine grid.
    """

    mask: Mask
    shape: Triple

    @property
    def empty(self) -> bool:
        """Whether no voxel belongs to it."""
        return not self._reached.any()

    def box(self, margin: Sequence[int] = (0, 0, 0)) -> Box:
        """The smallest box of the fine grid around the region.

        Args:
            margin: voxels by which it is larger at both ends of each axis, as far as the grid reaches.
        Returns: the box; the whole grid when the region is empty.
        """
        if self.empty:
            return slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2])
        others = ((1, 2), (0, 2), (0, 1))
        lines = [
            np.asarray(self._reached.any(axis=axes))[nearest]
            for axes, nearest in zip(others, self._nearest, strict=True)
        ]
        spans = zip(map(_extent, lines), margin, self.shape, strict=True)
        i, j, k = (slice(max(0, part.start - more), min(size, part.stop + more)) for part, more, size in spans)
        return i, j, k

    def touches(self, box: Box) -> bool:
        """Whether a box of the fine grid has a voxel of the region."""
        low, high = zip(*(self._span(axis, part) for axis, part in enumerate(box)), strict=True)
        (i, j, k), (u, v, w) = low, high
        if u <= i or v <= j or w <= k:
            return False
        sums = self._sums
        near = sums[u, v, k] + sums[u, j, w] + sums[i, v, w] + sums[i, j, k]
        return bool(sums[u, v, w] + sums[u, j, k] + sums[i, v, k] + sums[i, j, w] != near)

    def counts(self, mask: Mask) -> npt.NDArray[np.int64]:
        """How many voxels of a mask (I, J, K) of the fine grid are nearest to each coarse voxel: (i, j, k)."""
        counts = np.zeros(self.mask.shape, np.int64)
        places = tuple(nearest[voxels] for nearest, voxels in zip(self._nearest, np.nonzero(mask), strict=True))
        np.add.at(counts, places, 1)
        return counts

    def bounds(self, planes: slice, band: slice, axes: Sequence[int]) -> tuple[slice, slice]:
        """The smallest box of a slab that holds its part of the region.

        Args:
            planes: of the fine grid, along the first of `axes`.
            band: of the fine grid, along the second.
            axes: the axes of the grid in another order.
        Returns: along the second axis, counted from the band's start, and along the third; both empty without a voxel.
        """
        coarse = self._coarse(planes, band, axes)
        if not coarse.any():
            return _NOTHING
        near, far = (np.asarray(coarse.any(axis=others)) for others in ((0, 2), (0, 1)))
        rows = near[self._nearest[axes[1]][band] - self._span(axes[1], band)[0]]
        columns = far[self._nearest[axes[2]]]
        return _extent(rows), _extent(columns)

    def part(self, planes: slice, band: slice, columns: slice, axes: Sequence[int]) -> Mask:
        """Which voxels of a part of the fine grid belong to the region.

        Args:
            planes: along the first of `axes`.
            band: along the second.
            columns: along the third.
            axes: the axes of the grid in another order.
        Returns: boolean (planes, band, columns).
        """
        upright = self.mask.transpose(axes)
        parts = zip(axes, (planes, band, columns), strict=True)
        return upright[np.ix_(*(self._nearest[axis][part] for axis, part in parts))]

    @cached_property
    def _nearest(self) -> tuple[Indices, Indices, Indices]:
        """Along each axis, the nearest coarse voxel of each fine one; half-pixel centres, as everywhere."""
        sizes = zip(self.mask.shape, self.shape, strict=True)
        i, j, k = (((2 * np.arange(fine, dtype=np.intp) + 1) * coarse) // (2 * fine) for coarse, fine in sizes)
        return i, j, k

    @cached_property
    def _reached(self) -> Mask:
        """The mask without coarse voxels that are the nearest of no fine one: a grid of few voxels has some."""
        result = np.zeros_like(self.mask)
        reached = np.ix_(*(np.unique(nearest) for nearest in self._nearest))
        result[reached] = self.mask[reached]
        return result

    @cached_property
    def _sums(self) -> npt.NDArray[np.int64]:
        """The number of voxels before each corner of the coarse grid, by which a box is counted at once."""
        sums = np.zeros([size + 1 for size in self.mask.shape], np.int64)
        sums[1:, 1:, 1:] = self._reached.cumsum(0, np.int64).cumsum(1).cumsum(2)
        return sums

    def _span(self, axis: int, part: slice) -> tuple[int, int]:
        """The coarse voxels that are the nearest of some fine voxel of a slice."""
        nearest = self._nearest[axis][part]
        return (int(nearest[0]), int(nearest[-1]) + 1) if len(nearest) else (0, 0)

    def _coarse(self, planes: slice, band: slice, axes: Sequence[int]) -> Mask:
        rows, columns = (slice(*self._span(axis, part)) for axis, part in zip(axes, (planes, band), strict=False))
        return self._reached.transpose(axes)[rows, columns]


def _extent(mask: Mask) -> slice:
    found = np.flatnonzero(mask)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)
