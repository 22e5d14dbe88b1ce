"""Argmax resampling: the most probable class at every voxel of a resized grid, without resizing the classes.

Linear interpolation is a convex combination: where all corners of a new voxel agree on the strongest class, that class
is the strongest there too. Rounding keeps the order of two numbers (each step is monotone), but it may make two equal:
corners where another class comes that close do not count as agreeing. Only such ambiguous voxels are interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attunet.data.resample import Resizing, gather
from attunet.data.volume import Array

__all__ = [
    "SLAB_VOXELS",
    "ClassIndices",
    "SamplePoints",
    "agreed_class",
    "resample_above",
    "resample_argmax",
    "resample_regions",
    "sample_points",
]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
ClassIndices = npt.NDArray[np.unsignedinteger]

SLAB_VOXELS = 2**21
"""Voxels of one slab, for each of which a few bytes are in memory."""
MANY_AMBIGUOUS, AMBIGUOUS_PER_CLASS = 0.2, 0.016  # share from which resizing every class is faster (measured)
CLOSE = np.float32(2**-20)  # three passes of two roundings each shift a number by less than 2^-21 of itself
TINY = np.float32(2**-120)  # absolute error of rounding, for numbers too small for a relative one
BLOCK_VOXELS = 2**18  # voxels resized or compared at once, which fit into a core's cache


@dataclass(frozen=True, eq=False)
class SamplePoints:
    """Single voxels of a resized grid, and the corners of each: the old voxels that it is interpolated from.

    Args:
        base: (N,), flat index of the first corner in the old grid.
        steps: for each axis that is resized, in their order: (N,) how much further the second corner is.
        weights: for each of these axes: float32 (2, N), the weights of the two corners.
    """

    base: Indices
    steps: tuple[Indices, ...]
    weights: tuple[Floats, ...]

    def take(self, chosen: Indices) -> SamplePoints:
        """Some of the points."""
        steps = tuple(step.take(chosen) for step in self.steps)
        weights = tuple(np.stack([low.take(chosen), high.take(chosen)]) for low, high in self.weights)
        return SamplePoints(self.base.take(chosen), steps, weights)

    def corners(self) -> Iterator[Indices]:
        """The flat indices (N,) of each corner in turn."""
        for corner in range(2 ** len(self.steps)):
            chosen = (step for bit, step in enumerate(self.steps) if corner >> bit & 1)
            yield sum(chosen, start=self.base)

    def interpolate(self, array: Array) -> Floats:
        """Values (N,) float32 interpolated from an array on the old grid, bit for bit as if all of it were resized."""
        flat = array.reshape(-1)
        values = [flat.take(index).astype(np.float32, copy=False) for index in self.corners()]
        for low_weight, high_weight in self.weights:
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [low * low_weight + high * high_weight for low, high in pairs]
        return values[0]


def resample_argmax(
    logits: Array, resizing: Resizing, rows: slice, *, most_ambiguous: float | None = None
) -> ClassIndices:
    """Index of the strongest class in a slab of the new grid; ties go to the lower class.

    The same as resizing each class and taking the argmax, bit for bit; finite numbers are expected.
    Args:
        logits: logits or probabilities (C, I, J, K) on the old grid, of which only what the slab needs is read.
        resizing: from the old grid to the new one.
        rows: of the new first axis.
        most_ambiguous: share of ambiguous voxels above which every class is resized; None for the fastest.
    Returns: unsigned integers (rows, J', K').
    """
    sources, part = resizing.part(rows)
    block = logits[:, sources]
    ambiguous = len(block)
    winner, close = _class_argmax(block)
    codes = (
        agreed_class(np.where(close, winner.dtype.type(ambiguous), winner), part, ambiguous) if part.order else winner
    )
    unresolved = np.flatnonzero(codes == ambiguous)
    if most_ambiguous is None:
        most_ambiguous = min(MANY_AMBIGUOUS, AMBIGUOUS_PER_CLASS * ambiguous)
    if len(unresolved) > most_ambiguous * codes.size:
        return _resized(block, part, codes.dtype)
    if len(unresolved):
        codes.reshape(-1)[unresolved] = _AmbiguousVoxels(block, winner, sample_points(part, unresolved)).resolve()
    return codes


def resample_above(
    array: Array, resizing: Resizing, rows: slice, threshold: float, *, most_ambiguous: float = AMBIGUOUS_PER_CLASS
) -> npt.NDArray[np.bool_]:
    """Whether an array (I, J, K) on the old grid is above a positive threshold, in a slab of the new grid.

    The same as resizing the array and comparing, bit for bit.
    Args:
        array: (I, J, K) on the old grid.
        resizing: from the old grid to the new one.
        rows: of the new first axis.
        threshold: above 0.
        most_ambiguous: share of ambiguous voxels above which all are resized.
    Returns: boolean (rows, J', K').
    """
    sources, part = resizing.part(rows)
    block = np.ascontiguousarray(array[sources], dtype=np.float32)
    if not part.order:
        return np.asarray(block > threshold)
    maybe, surely = block > threshold * (1 - CLOSE), block > threshold * (1 + CLOSE)
    if not maybe.any():  # most regions are far from most slabs
        return np.zeros(part.new, dtype=bool)
    codes = agreed_class(2 * maybe.view(np.uint8) - surely, part, 2)  # 0 below, 1 above, 2 too close to decide
    unresolved = np.flatnonzero(codes == 2)
    if len(unresolved) > most_ambiguous * codes.size:
        return np.asarray(part(block) > threshold)
    codes.reshape(-1)[unresolved] = sample_points(part, unresolved).interpolate(block) > threshold
    return codes.view(bool)


def resample_regions(probabilities: Array, resizing: Resizing, rows: slice) -> ClassIndices:
    """Label regions in a slab of the new grid: 1 + the last channel of (R, I, J, K) that is above 0.5, or 0 if none is.

    Args:
        probabilities: (R, I, J, K) on the old grid.
        resizing: from the old grid to the new one.
        rows: of the new first axis.
    Returns: unsigned integers (rows, J', K').
    """
    shape = (rows.stop - rows.start, *resizing.new[1:])
    result: ClassIndices = np.zeros(shape, dtype=np.min_scalar_type(len(probabilities)))
    for index, channel in enumerate(probabilities, start=1):
        _assign(result, resample_above(channel, resizing, rows, 0.5), index)
    return result


def sample_points(resizing: Resizing, flat: Indices) -> SamplePoints:
    """The points with these flat indices in the new grid."""
    places = np.unravel_index(flat, resizing.new)
    strides = [math.prod(resizing.old[axis + 1 :]) for axis in range(3)]
    base = np.zeros(len(flat), dtype=np.intp)
    steps: dict[int, Indices] = {}
    weights: dict[int, Floats] = {}
    for axis, (place, interpolation, stride) in enumerate(zip(places, resizing.interpolation, strides, strict=True)):
        base += (interpolation.index[0] * stride).take(place)
        if axis in resizing.order:
            steps[axis] = ((interpolation.index[1] - interpolation.index[0]) * stride).take(place)
            weights[axis] = np.stack([weight.take(place) for weight in interpolation.weights])
    return SamplePoints(
        base, tuple(steps[axis] for axis in resizing.order), tuple(weights[axis] for axis in resizing.order)
    )


def agreed_class(codes: Array, resizing: Resizing, ambiguous: int) -> Array:
    """The code on which all corners of a new voxel agree, else `ambiguous`; for codes (I, J, K) of the old grid.

    `ambiguous` is above every code, and what is ambiguous already stays so. Corners without weight have no say.

    Args:
        codes: unsigned integers (I, J, K).
        resizing: from the old grid to the new one.
        ambiguous: the code of disagreement.
    Returns: contiguous, of the codes' dtype.
    """
    # The last axis first: it is the most expensive to gather, and there are never fewer voxels than here.
    for axis in sorted(resizing.order, reverse=True):
        first, second = resizing.interpolation[axis].index
        agreed = gather(codes, first, axis)
        np.maximum(agreed, (agreed != gather(codes, second, axis)) * agreed.dtype.type(ambiguous), out=agreed)
        codes = agreed
    return np.ascontiguousarray(codes)


def _class_argmax(block: Array) -> tuple[ClassIndices, npt.NDArray[np.bool_]]:
    """The strongest class of each old voxel, and whether another is so close that rounding may make them equal."""
    classes, shape = len(block), block.shape[1:]
    winner = np.zeros(shape, dtype=np.min_scalar_type(classes))
    close = np.zeros(shape, dtype=bool)
    step = max(1, BLOCK_VOXELS // 8 // (shape[1] * shape[2]))  # a few planes at a time, which stay in the cache
    for start in range(0, shape[0], step):
        planes = slice(start, start + step)
        _scan_classes(block[:, planes], winner[planes], close[planes])
    return winner, close


def _scan_classes(block: Array, winner: ClassIndices, close: npt.NDArray[np.bool_]) -> None:
    keys = block[0].astype(np.float32, copy=False)
    best, second = keys.copy(), np.full_like(keys, keys.min())
    wins = np.empty(best.shape, dtype=bool)
    for index in range(1, len(block)):
        keys = block[index].astype(np.float32, copy=False)
        np.greater(keys, best, out=wins)
        if wins.any():  # rare for most classes; only a former strongest class can be the runner-up
            np.maximum(second, np.minimum(best, keys), out=second)
            np.maximum(best, keys, out=best)
            _assign(winner, wins, index)
    np.less_equal(best - second, CLOSE * (np.abs(best) + np.abs(second)) + TINY, out=close)
    close &= winner > 0  # ties go to the lower class: nothing is close to the lowest from below


def _assign(winner: ClassIndices, wins: npt.NDArray[np.bool_], index: int) -> None:
    """Assign class `index`, higher than all before, where it wins; without branches, which are slow on random masks."""
    np.maximum(winner, wins * winner.dtype.type(index), out=winner)


def _resized(block: Array, resizing: Resizing, dtype: np.dtype[np.unsignedinteger]) -> ClassIndices:
    """All classes, one after the other."""
    result: ClassIndices = np.zeros(resizing.new, dtype=dtype)
    step = resizing.rows(BLOCK_VOXELS)
    for start in range(0, len(result), step):
        rows = slice(start, min(start + step, len(result)))
        best = resizing.slab(block[0], rows).copy()  # it may share the input's memory
        for index in range(1, len(block)):
            strength = resizing.slab(block[index], rows)
            _assign(result[rows], strength > best, index)
            np.maximum(best, strength, out=best)
    return result


class _AmbiguousVoxels:
    """Which class is the strongest at single points whose corners disagree.

    The classes that win a corner are interpolated first. No other can be above the interpolated runners-up of the
    corners, so that the rest is interpolated only where these come near.
    """

    def __init__(self, block: Array, winner: ClassIndices, points: SamplePoints) -> None:
        self._block = block
        self._winner = winner.reshape(-1)
        self._points = points
        self._best = np.full(len(points.base), -np.inf, dtype=np.float32)
        self._label = np.zeros(len(points.base), dtype=winner.dtype)

    def resolve(self) -> ClassIndices:
        """The strongest class of each point."""
        at_corners = [self._winner.take(corner) for corner in self._points.corners()]
        present = np.zeros(len(self._block), dtype=bool)
        for labels in at_corners:
            present[labels] = True
        for index in np.flatnonzero(present).tolist():
            wins = at_corners[0] == index
            for labels in at_corners[1:]:
                wins |= labels == index
            self._compare(index, np.flatnonzero(wins))
        doubtful = np.flatnonzero(self._points.interpolate(self._runners_up()) >= self._best)
        if len(doubtful):
            for index in range(len(self._block)):
                self._compare(index, doubtful)
        return self._label

    def _compare(self, index: int, chosen: Indices) -> None:
        strength = self._points.take(chosen).interpolate(self._block[index])
        best, label = self._best.take(chosen), self._label.take(chosen)
        wins = (strength > best) | ((strength == best) & (index < label))
        self._best[chosen] = np.where(wins, strength, best)
        self._label[chosen] = np.where(wins, label.dtype.type(index), label)

    def _runners_up(self) -> Floats:
        """At the corners of the points: the strongest logit of all classes but the winner."""
        touched = np.zeros(len(self._winner), dtype=bool)
        for corner in self._points.corners():
            touched[corner] = True
        places = np.flatnonzero(touched)
        winner = self._winner.take(places)
        second = np.full(len(places), -np.inf, dtype=np.float32)
        for index, channel in enumerate(self._block):
            values = channel.reshape(-1).take(places).astype(np.float32, copy=False)
            np.maximum(second, values, out=second, where=winner != index)
        result = np.zeros(len(self._winner), dtype=np.float32)
        result[places] = second
        return result
