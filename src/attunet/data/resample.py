"""Resizing by separable linear interpolation: half-pixel centres, edges clamped, one axis at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from attunet.data.slabs import each_slab, packed
from attunet.data.volume import Array
from attunet.errors import GeometryError

__all__ = [
    "InterpolationWeights",
    "Resizing",
    "gather",
    "linear_weights",
    "resize",
    "resize_into",
    "resize_labels",
]

Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Floats = npt.NDArray[np.float32]

_SLAB_VOXELS = 2**18  # 1 MiB: stays in the cache of a core
_GATHERED = 2**14  # samples of the last axis that are gathered at once: their indices stay in the cache
_BLOCK_ROWS = 64  # voxels of the old grid: contiguous ones fill whole cache lines


@dataclass(frozen=True, eq=False)
class InterpolationWeights:
    """New sample i is the sum over t of weights[t, i] * old[index[t, i]].

    Args:
        index: (T, new), ascending in t. A sample without weight repeats the index of the heaviest one.
        weights: float32 (T, new), not negative; of each new sample they sum to 1.
    """

    index: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.index.shape[1])

    def reach(self, targets: slice) -> slice:
        """The old samples that the new samples of a slice are made of."""
        index = self.index[:, targets]
        return slice(int(index.min()), int(index.max()) + 1)

    def targets(self, sources: slice) -> slice:
        """The new samples that are made of old samples of a slice."""
        touched = np.flatnonzero(((self.index >= sources.start) & (self.index < sources.stop)).any(axis=0))
        return slice(int(touched[0]), int(touched[-1]) + 1) if len(touched) else slice(0, 0)

    def part(self, targets: slice, sources: slice) -> InterpolationWeights:
        """The weights of a slice of the new samples from a slice of the old ones; samples outside it count as 0."""
        index, weights = self.index[:, targets], self.weights[:, targets]
        inside = (index >= sources.start) & (index < sources.stop)
        return InterpolationWeights(
            (index - sources.start).clip(0, sources.stop - sources.start - 1),
            weights if inside.all() else np.where(inside, weights, np.float32(0)),
        )


@dataclass(frozen=True, eq=False)
class Resizing:
    """The interpolation from one grid (I, J, K) to another of the same extent, which can be done slab by slab.

    Every voxel takes the same operations in the same order in any slab, so the numbers are equal.
    Args:
        old: shape of the old grid.
        new: shape of the new grid.
        interpolation: the weights of each axis.
        order: the axes that change, in the order in which they are resized.
    """

    old: Triple
    new: Triple
    interpolation: tuple[InterpolationWeights, InterpolationWeights, InterpolationWeights]
    order: tuple[int, ...]

    @classmethod
    def between(cls, old: Triple, new: Triple, *, antialias: bool = False) -> Self:
        """The resizing from one shape to another.

        Args:
            old: shape of the old grid.
            new: shape of the new grid.
            antialias: average all voxels on axes that shrink, instead of skipping some.
        Returns: the resizing.
        """
        i, j, k = (linear_weights(before, after, antialias=antialias) for before, after in zip(old, new, strict=True))
        # The axis that shrinks most goes first: every later pass then works on the least data.
        order = sorted((axis for axis in range(3) if old[axis] != new[axis]), key=lambda axis: new[axis] / old[axis])
        return cls(old, new, (i, j, k), tuple(order))

    def rows(self, voxels: int) -> int:
        """Rows of the new first axis that cover about `voxels` voxels of the larger grid; at least 1."""
        return max(1, voxels * self.new[0] // max(math.prod(self.old), math.prod(self.new)))

    def part(self, rows: slice, axis: int = 0, sources: slice | None = None) -> tuple[slice, Resizing]:
        """For a slab of the new grid: the slab of the old grid that it needs, and the resizing between the two.

        Args:
            rows: the slab of the new grid.
            axis: along which it is cut.
            sources: a larger slab of the old grid, if one is in memory; None for the slab that it needs.
        Returns: the slab of the old grid, and the resizing between the two.
        """
        sources = sources or self.interpolation[axis].reach(rows)
        part = self.interpolation[axis].part(rows, sources)
        i, j, k = (part if index == axis else interpolation for index, interpolation in enumerate(self.interpolation))
        old, new = list(self.old), list(self.new)
        old[axis], new[axis] = sources.stop - sources.start, len(part)
        return sources, Resizing((old[0], old[1], old[2]), (new[0], new[1], new[2]), (i, j, k), self.order)

    def permuted(self, axes: Triple) -> Resizing:
        """The same resizing for arrays with permuted axes, resized in the same order, so that the numbers are equal."""
        i, j, k = axes
        old, new = (self.old[i], self.old[j], self.old[k]), (self.new[i], self.new[j], self.new[k])
        interpolation = (self.interpolation[i], self.interpolation[j], self.interpolation[k])
        return Resizing(old, new, interpolation, tuple(axes.index(axis) for axis in self.order))

    def __call__(self, array: Array) -> Floats:
        """The array (I, J, K) of the old grid on the new one, float32; its own memory when nothing changes."""
        result: Floats = np.ascontiguousarray(array, dtype=np.float32)
        for axis in self.order:
            result = _resize_axis(result, axis, self.interpolation[axis])
        return result

    def slab(self, array: Array, rows: slice) -> Floats:
        """Like calling it, but for a slab of the new grid; only the part of the array that it needs is read."""
        sources, part = self.part(rows)
        return part(array[sources])


def linear_weights(old: int, new: int, *, antialias: bool = False) -> InterpolationWeights:
    """Weights from `old` samples to `new` over the same extent: half-pixel centres, edges clamped.

    Two old samples for each new one; with `antialias`, where the axis shrinks, as many as the widened triangle covers.

    Args:
        old: number of old samples.
        new: number of new samples.
        antialias: widen the triangle where the axis shrinks.
    Returns: the weights of each new sample.
    """
    step = old / new
    width = max(step, 1.0) if antialias else 1.0
    centres = (np.arange(new) + 0.5) * step - 0.5
    if width == 1.0:
        centres = centres.clip(0, old - 1)
    index = np.floor(centres - width).astype(np.intp) + 1 + np.arange(int(np.ceil(2 * width)))[:, None]
    share = np.maximum(0.0, 1.0 - np.abs(index - centres) / width)
    share[(index < 0) | (index >= old)] = 0.0
    weights = (share / share.sum(axis=0)).astype(np.float32)
    heaviest = np.take_along_axis(index, weights.argmax(axis=0)[None], axis=0)
    return InterpolationWeights(np.where(weights > 0, index, heaviest), weights)


def gather(array: Array, index: npt.NDArray[np.intp], axis: int) -> Array:
    """The samples with these indices along one axis; a contiguous copy.

    Args:
        array: (I, J, K).
        index: of the samples.
        axis: along which they are taken.
    Returns: the array with this axis replaced.
    """
    if axis < 2:
        return array.take(index, axis=axis)
    # numpy copies the last axis element by element; flat indices of many rows at once are several times faster.
    rows = np.ascontiguousarray(array).reshape(-1, array.shape[2])
    result = np.empty((len(rows), len(index)), dtype=array.dtype)
    step = max(1, _GATHERED // max(rows.shape[1], len(index)))
    flat = np.arange(min(step, len(rows)))[:, None] * rows.shape[1] + index
    for start in range(0, len(rows), step):
        target = result[start : start + step]
        target[:] = rows[start : start + step].reshape(-1).take(flat[: len(target)])
    return result.reshape(*array.shape[:2], -1)


def resize(array: Array, shape: Triple, *, antialias: bool = False) -> Array:
    """The array (..., I, J, K) on a grid of `shape` covering the same extent, as float32.

    The same numbers as torch's linear `interpolate(align_corners=False)`. With `antialias` the interpolating
    triangle is widened on axes that shrink, so that no voxel is skipped. When nothing changes, the
    result may share the input's memory.

    Args:
        array: (..., I, J, K).
        shape: of the new grid.
        antialias: average all voxels on axes that shrink, instead of skipping some.
    Returns: float32 (..., *shape).
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


def resize_into(target: Array, array: Array, *, antialias: bool = False, box: Box | None = None) -> None:
    """Write a resized array into a target; only slabs are held in memory.

    Args:
        target: (I', J', K') of any strides.
        array: (I, J, K).
        antialias: see `resize`.
        box: the part of the target to write, with the numbers that it has in the whole; None for all of it.
    """
    (i, j, k), (new_i, new_j, new_k) = array.shape, target.shape
    resizing = Resizing.between((i, j, k), (new_i, new_j, new_k), antialias=antialias)
    first, second, third = box or (slice(0, size) for size in target.shape)
    columns, resizing = resizing.part(second, axis=1)
    layers, resizing = resizing.part(third, axis=2)

    def work(slab: slice) -> None:
        rows = slice(first.start + slab.start, first.start + slab.stop)
        sources, part = resizing.part(rows)
        block, result = packed(array[sources, columns, layers]), target[rows, second, third]
        step = part.rows(_SLAB_VOXELS)
        for start in range(0, len(result), step):
            inner = slice(start, min(start + step, len(result)))
            result[inner] = part.slab(block, inner)

    each_slab(work, first.stop - first.start, max(1, _BLOCK_ROWS * new_i // i))


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
            interpolation = linear_weights(mask.shape[axis], result.shape[axis])
            share = _resize_axis(share, axis, interpolation.part(targets[axis], sources[axis]))
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


def _resize_axis(array: Floats, axis: int, interpolation: InterpolationWeights) -> Floats:
    """(I, J, K) with one axis interpolated; contiguous."""
    shaped = np.expand_dims(interpolation.weights, [other for other in (1, 2, 3) if other != axis + 1])
    result = gather(array, interpolation.index[0], axis)
    result *= shaped[0]
    for index, weights in zip(interpolation.index[1:], shaped[1:], strict=True):
        gathered = gather(array, index, axis)
        gathered *= weights
        result += gathered
    return result
