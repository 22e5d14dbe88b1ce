"""Resizing voxel by voxel: which new voxels lie among old ones that agree, and the numbers of those that do not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attunet.data.resample import Resizing
from attunet.data.taps import gather
from attunet.data.volume import Array

__all__ = ["Points", "agreement", "points_at"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Points:
    """Single voxels of a resized grid and the up to eight old voxels, the corners, that each is made of.

    Args:
        base: (N,), flat index of the first corner in the old grid.
        steps, weights: for each axis that is resized, in their order: (N,) how much further the second corner is,
            and float32 (2, N), the weights of the two.
    """

    base: Indices
    steps: tuple[Indices, ...]
    weights: tuple[Floats, ...]

    def take(self, chosen: Indices) -> Points:
        """Some of the points."""
        steps = tuple(step.take(chosen) for step in self.steps)
        weights = tuple(np.stack([low.take(chosen), high.take(chosen)]) for low, high in self.weights)
        return Points(self.base.take(chosen), steps, weights)

    def corners(self) -> Iterator[Indices]:
        """The flat indices (N,) of each corner in turn."""
        for corner in range(2 ** len(self.steps)):
            chosen = (step for bit, step in enumerate(self.steps) if corner >> bit & 1)
            yield sum(chosen, start=self.base)

    def interpolate(self, array: Array) -> Floats:
        """(N,) float32 from an array of the old grid: the very numbers that resizing all of it gives."""
        flat = array.reshape(-1)
        values = [flat.take(index).astype(np.float32, copy=False) for index in self.corners()]
        for low_weight, high_weight in self.weights:
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [low * low_weight + high * high_weight for low, high in pairs]
        return values[0]


def points_at(resizing: Resizing, flat: Indices) -> Points:
    """The points with these flat indices in the new grid."""
    places = np.unravel_index(flat, resizing.new)
    strides = [math.prod(resizing.old[axis + 1 :]) for axis in range(3)]
    base = np.zeros(len(flat), dtype=np.intp)
    steps: dict[int, Indices] = {}
    weights: dict[int, Floats] = {}
    for axis, (place, taps, stride) in enumerate(zip(places, resizing.taps, strides, strict=True)):
        base += (taps.index[0] * stride).take(place)
        if axis in resizing.order:
            steps[axis] = ((taps.index[1] - taps.index[0]) * stride).take(place)
            weights[axis] = np.stack([weight.take(place) for weight in taps.weights])
    return Points(base, tuple(steps[axis] for axis in resizing.order), tuple(weights[axis] for axis in resizing.order))


def agreement(codes: Array, resizing: Resizing, mixed: int) -> Array:
    """The code on which all corners of a new voxel agree, else `mixed`; for codes (I, J, K) of the old grid.

    `mixed` is above every code, and what is mixed already stays so. Corners without weight have no say. The result is
    contiguous and of the codes' dtype.
    """
    # The last axis first: its gathering is the dearest, and it never meets fewer voxels than here.
    for axis in sorted(resizing.order, reverse=True):
        first, second = resizing.taps[axis].index
        agreed = gather(codes, first, axis)
        np.maximum(agreed, (agreed != gather(codes, second, axis)) * agreed.dtype.type(mixed), out=agreed)
        codes = agreed
    return np.ascontiguousarray(codes)
