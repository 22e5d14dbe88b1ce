"""The strongest class at every voxel of a resized grid, without resizing the classes.

Linear interpolation is a convex combination: where all corners of a new voxel agree on the strongest class, that class
is the strongest there too. Rounding keeps the order of two numbers (each step is monotone), but it may make two equal:
corners where another class comes that close do not count as agreeing. Only what disagrees is interpolated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attunet.data.resample import Resizing
from attunet.data.restoration.cells import Points, agreement, points_at
from attunet.data.volume import Array

__all__ = ["SLAB_VOXELS", "Codes", "above", "painted", "strongest"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Codes = npt.NDArray[np.unsignedinteger]

SLAB_VOXELS = 2**21
"""Of one slab, in which a few bytes a voxel are held."""
MOSTLY_MIXED, PER_CLASS = 0.2, 0.016  # shares of mixed voxels from which resizing every class is quicker (measured)
CLOSE = np.float32(2**-20)  # three passes of two roundings each shift a number by less than 2^-21 of itself
TINY = np.float32(2**-120)  # as much as rounding shifts numbers too small for a relative error
PIECE_VOXELS = 2**18  # of what is resized or compared at once, in the cache of a core


def strongest(logits: Array, resizing: Resizing, rows: slice) -> Codes:
    """Index of the strongest class in a slab of the new grid; ties go to the lower class.

    The same as resizing each class and taking the argmax, bit for bit; finite numbers are expected.
    Args: (C, I, J, K) on the old grid, of which only what the slab needs is touched; rows of the new first axis.
    Returns: unsigned integers (rows, J', K').
    """
    sources, part = resizing.part(rows)
    block = logits[:, sources]
    mixed = len(block)
    winner, close = _winners(block)
    codes = agreement(np.where(close, winner.dtype.type(mixed), winner), part, mixed) if part.order else winner
    open_ = np.flatnonzero(codes == mixed)
    if len(open_) > min(MOSTLY_MIXED, PER_CLASS * mixed) * codes.size:
        return _resized(block, part, codes.dtype)
    if len(open_):
        codes.reshape(-1)[open_] = _Contest(block, winner, points_at(part, open_)).settle()
    return codes


def above(array: Array, resizing: Resizing, rows: slice, threshold: float) -> npt.NDArray[np.bool_]:
    """Where an array (I, J, K) of the old grid is above a positive threshold, in a slab of the new grid.

    The same as resizing the array and comparing, bit for bit. Returns: boolean (rows, J', K').
    """
    sources, part = resizing.part(rows)
    block = np.ascontiguousarray(array[sources], dtype=np.float32)
    if not part.order:
        return np.asarray(block > threshold)
    maybe, surely = block > threshold * (1 - CLOSE), block > threshold * (1 + CLOSE)
    if not maybe.any():  # most regions are far from most slabs
        return np.zeros(part.new, dtype=bool)
    codes = agreement(2 * maybe.view(np.uint8) - surely, part, 2)  # 0 below, 1 above, 2 too close to say
    open_ = np.flatnonzero(codes == 2)
    if len(open_) > PER_CLASS * codes.size:
        return np.asarray(part(block) > threshold)
    codes.reshape(-1)[open_] = points_at(part, open_).interpolate(block) > threshold
    return codes.view(bool)


def painted(probabilities: Array, resizing: Resizing, rows: slice) -> Codes:
    """1 + the last of the channels (R, I, J, K) that is above 0.5, 0 where none is; otherwise as `strongest`."""
    shape = (rows.stop - rows.start, *resizing.new[1:])
    result: Codes = np.zeros(shape, dtype=np.min_scalar_type(len(probabilities)))
    for index, channel in enumerate(probabilities, start=1):
        _crown(result, above(channel, resizing, rows, 0.5), index)
    return result


def _winners(block: Array) -> tuple[Codes, npt.NDArray[np.bool_]]:
    """The strongest class of each old voxel, and where another comes so close that rounding may make them equal."""
    classes, shape = len(block), block.shape[1:]
    winner = np.zeros(shape, dtype=np.min_scalar_type(classes))
    close = np.zeros(shape, dtype=bool)
    step = max(1, PIECE_VOXELS // 8 // (shape[1] * shape[2]))  # some planes at a time, which stay in the cache
    for start in range(0, shape[0], step):
        planes = slice(start, start + step)
        _scan(block[:, planes], winner[planes], close[planes])
    return winner, close


def _scan(block: Array, winner: Codes, close: npt.NDArray[np.bool_]) -> None:
    keys = _sortable(block[0])
    best, second = keys.copy(), np.full_like(keys, keys.min())
    wins = np.empty(best.shape, dtype=bool)
    for index in range(1, len(block)):
        keys = _sortable(block[index])
        np.greater(keys, best, out=wins)
        if wins.any():  # in most places most classes never do, and only what was once the strongest is runner-up
            np.maximum(second, np.minimum(best, keys), out=second)
            np.maximum(best, keys, out=best)
            _crown(winner, wins, index)
    high, low = _numbers(best, block.dtype), _numbers(second, block.dtype)
    np.less_equal(high - low, CLOSE * (np.abs(high) + np.abs(low)) + TINY, out=close)
    close &= winner > 0  # ties go to the lower class: nothing is close to the lowest from below


def _crown(winner: Codes, wins: npt.NDArray[np.bool_], index: int) -> None:
    """Class `index`, higher than all before, where it wins; without branches, which random masks make slow."""
    np.maximum(winner, wins * winner.dtype.type(index), out=winner)


def _sortable(array: Array) -> Array:
    """The numbers as something that compares alike and fast: half floats, which no CPU compares, as integers."""
    if array.dtype != np.float16:
        return array.astype(np.float32, copy=False)
    bits = np.ascontiguousarray(array).view(np.int16)
    sign = bits >> 15  # 0 or -1
    return ((bits & 0x7FFF) ^ sign) - sign


def _numbers(keys: Array, dtype: np.dtype[np.generic]) -> Floats:
    """What was made sortable, as float32."""
    if dtype != np.float16:
        return keys
    size = np.abs(keys).view(np.float16).astype(np.float32)
    return np.copysign(size, keys)


def _resized(block: Array, resizing: Resizing, dtype: np.dtype[np.unsignedinteger]) -> Codes:
    """All classes, one after the other."""
    result: Codes = np.zeros(resizing.new, dtype=dtype)
    step = resizing.rows(PIECE_VOXELS)
    for start in range(0, len(result), step):
        rows = slice(start, min(start + step, len(result)))
        best = resizing.slab(block[0], rows).copy()  # it may share the input's memory
        for index in range(1, len(block)):
            strength = resizing.slab(block[index], rows)
            _crown(result[rows], strength > best, index)
            np.maximum(best, strength, out=best)
    return result


class _Contest:
    """Which class is the strongest at single points whose corners disagree.

    The classes that win a corner are interpolated first. No other can be above the interpolated runners-up of the
    corners, so that the rest is interpolated only where these come near.
    """

    def __init__(self, block: Array, winner: Codes, points: Points) -> None:
        self._block = block
        self._winner = winner.reshape(-1)
        self._points = points
        self._best = np.full(len(points.base), -np.inf, dtype=np.float32)
        self._label = np.zeros(len(points.base), dtype=winner.dtype)

    def settle(self) -> Codes:
        """The strongest class of each point."""
        at_corners = [self._winner.take(corner) for corner in self._points.corners()]
        present = np.zeros(len(self._block), dtype=bool)
        for labels in at_corners:
            present[labels] = True
        for index in np.flatnonzero(present).tolist():
            wins = at_corners[0] == index
            for labels in at_corners[1:]:
                wins |= labels == index
            self._try(index, np.flatnonzero(wins))
        doubtful = np.flatnonzero(self._points.interpolate(self._runners_up()) >= self._best)
        if len(doubtful):
            for index in range(len(self._block)):
                self._try(index, doubtful)
        return self._label

    def _try(self, index: int, chosen: Indices) -> None:
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
