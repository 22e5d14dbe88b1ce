"""Resizing by separable linear interpolation: half-pixel centres, edges clamped, one axis at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from attunet.data.slabs import each_slab, packed
from attunet.data.taps import Taps, gather, linear_taps
from attunet.data.volume import Array
from attunet.errors import GeometryError

__all__ = ["Resizing", "resize", "resize_into", "resize_labels"]

Triple = tuple[int, int, int]
Floats = npt.NDArray[np.float32]

_SLAB_VOXELS = 2**18  # 1 MiB: stays in the cache of a core
_BLOCK_ROWS = 64  # of the old grid: what lies closest in memory fills whole lines of the cache


@dataclass(frozen=True, eq=False)
class Resizing:
    """The way from one grid (I, J, K) to another of the same extent, which may be gone slab by slab.

    Every voxel takes the same operations in the same order, whatever slab it is made in: the numbers are equal.
    Args: both shapes; the taps of each axis; the axes that change, in the order in which they are resized.
    """

    old: Triple
    new: Triple
    taps: tuple[Taps, Taps, Taps]
    order: tuple[int, ...]

    @classmethod
    def between(cls, old: Triple, new: Triple, *, antialias: bool = False) -> Self:
        """From shape to shape; with `antialias` no voxel is stepped over on axes that shrink."""
        i, j, k = (linear_taps(before, after, antialias=antialias) for before, after in zip(old, new, strict=True))
        # The axis that shrinks most goes first: every later pass then works on the least data.
        order = sorted((axis for axis in range(3) if old[axis] != new[axis]), key=lambda axis: new[axis] / old[axis])
        return cls(old, new, (i, j, k), tuple(order))

    def rows(self, voxels: int) -> int:
        """How many rows of the new first axis take about so many voxels, of the old grid or the new; at least 1."""
        return max(1, voxels * self.new[0] // max(math.prod(self.old), math.prod(self.new)))

    def part(self, rows: slice, axis: int = 0, sources: slice | None = None) -> tuple[slice, Resizing]:
        """For a slab of the new grid: the slab of the old grid that it needs, and the way between these two.

        Args: the slab along an axis; more of the old grid than that, where more is at hand.
        """
        sources = sources or self.taps[axis].reach(rows)
        part = self.taps[axis].part(rows, sources)
        i, j, k = (part if index == axis else taps for index, taps in enumerate(self.taps))
        old, new = list(self.old), list(self.new)
        old[axis], new[axis] = sources.stop - sources.start, len(part)
        return sources, Resizing((old[0], old[1], old[2]), (new[0], new[1], new[2]), (i, j, k), self.order)

    def turned(self, axes: Triple) -> Resizing:
        """The same way for arrays whose axes were put into this order: each axis keeps its turn, so the numbers too."""
        i, j, k = axes
        old, new = (self.old[i], self.old[j], self.old[k]), (self.new[i], self.new[j], self.new[k])
        taps = (self.taps[i], self.taps[j], self.taps[k])
        return Resizing(old, new, taps, tuple(axes.index(axis) for axis in self.order))

    def __call__(self, array: Array) -> Floats:
        """The array (I, J, K) of the old grid on the new one, float32; its own memory when nothing changes."""
        result: Floats = np.ascontiguousarray(array, dtype=np.float32)
        for axis in self.order:
            result = _resize_axis(result, axis, self.taps[axis])
        return result

    def slab(self, array: Array, rows: slice) -> Floats:
        """As calling it, but only a slab of the new grid; only what that needs of the array is touched."""
        sources, part = self.part(rows)
        return part(array[sources])


def resize(array: Array, shape: Triple, *, antialias: bool = False) -> Array:
    """The array (..., I, J, K) on a grid of `shape` covering the same extent, as float32.

    The same numbers as torch's linear `interpolate(align_corners=False)`. With `antialias` the interpolating
    triangle is widened on axes that shrink, so that no voxel is stepped over. When nothing changes, the
    result may share the input's memory.
    Raises: GeometryError when the array has fewer than three axes or the shape holds a number below 1.
    """
    if array.ndim < 3 or len(shape) != 3 or min(shape) < 1:
        raise GeometryError(f"cannot resize shape {array.shape} to {shape}, expected (..., I, J, K)")
    i, j, k = array.shape[-3:]
    if (i, j, k) == tuple(shape):
        return np.ascontiguousarray(array, dtype=np.float32)
    result = np.empty((*array.shape[:-3], *shape), dtype=np.float32)
    for lead in np.ndindex(array.shape[:-3]):
        resize_into(result[lead], array[lead], antialias=antialias)
    return result


def resize_into(target: Array, array: Array, *, antialias: bool = False) -> None:
    """Write the array (I, J, K), resized as by `resize`, into a target of any strides: no more than slabs are held."""
    (i, j, k), (new_i, new_j, new_k) = array.shape, target.shape
    resizing = Resizing.between((i, j, k), (new_i, new_j, new_k), antialias=antialias)

    def work(rows: slice) -> None:
        sources, part = resizing.part(rows)
        block, result = packed(array[sources]), target[rows]
        step = part.rows(_SLAB_VOXELS)
        for start in range(0, len(result), step):
            inner = slice(start, min(start + step, len(result)))
            result[inner] = part.slab(block, inner)

    each_slab(work, new_i, max(1, _BLOCK_ROWS * new_i // i))


def resize_labels(labels: Array, shape: Triple) -> Array:
    """The label map (I, J, K) on a grid of `shape`: each label linearly, then the strongest at every voxel.

    Ties go to the lower label. Returns the labels' own dtype. Each label is resized in its bounding box only.
    Raises: GeometryError when the array is not three-dimensional.
    """
    if labels.ndim != 3:
        raise GeometryError(f"cannot resize labels of shape {labels.shape}, expected (I, J, K)")
    if labels.shape == shape:
        return labels.copy()
    values = np.unique(labels)
    result = np.full(shape, values[0], dtype=labels.dtype)
    if len(values) == 1:
        return result
    best = np.zeros(shape, dtype=np.float32)
    for value in values:
        _claim(labels == value, value, result, best)
    return result


def _claim(mask: Array, value: Array, result: Array, best: Array) -> None:
    """Give `value` the voxels of the new grid where its share is above the best so far."""
    sources, targets = zip(*(_reach(mask, axis, result.shape[axis]) for axis in range(3)), strict=True)
    share = np.ascontiguousarray(mask[sources], dtype=np.float32)
    # Low axes first would do as well: inside a box the sizes are much alike.
    for axis in range(3):
        if mask.shape[axis] != result.shape[axis]:
            taps = linear_taps(mask.shape[axis], result.shape[axis])
            share = _resize_axis(share, axis, taps.part(targets[axis], sources[axis]))
    won = share > best[targets]
    best[targets][won] = share[won]
    result[targets][won] = value


def _reach(mask: Array, axis: int, size: int) -> tuple[slice, slice]:
    """Along one axis: the box of the mask, and the part of a grid of `size` that the box can influence."""
    filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
    low, high = int(filled[0]), int(filled[-1]) + 1
    if size == mask.shape[axis]:
        return slice(low, high), slice(low, high)
    scale = size / mask.shape[axis]
    return slice(low, high), slice(max(0, int((low - 1) * scale)), min(size, int((high + 1) * scale) + 1))


def _resize_axis(array: Floats, axis: int, taps: Taps) -> Floats:
    """(I, J, K) with one axis made of its taps; contiguous."""
    shaped = np.expand_dims(taps.weights, [other for other in (1, 2, 3) if other != axis + 1])
    result = gather(array, taps.index[0], axis)
    result *= shaped[0]
    for index, weights in zip(taps.index[1:], shaped[1:], strict=True):
        gathered = gather(array, index, axis)
        gathered *= weights
        result += gathered
    return result
