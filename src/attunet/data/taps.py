"""Linear interpolation along one axis: which old samples a new sample is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attunet.data.volume import Array

__all__ = ["Taps", "gather", "linear_taps"]

_BLOCK = 2**14  # samples of the last axis that are gathered at once: their indices stay in the cache


@dataclass(frozen=True, eq=False)
class Taps:
    """New sample i is the sum over t of weights[t, i] * old[index[t, i]].

    Args:
        index: (T, new), ascending in t. A tap without weight repeats the index of the heaviest one.
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

    def part(self, targets: slice, sources: slice) -> Taps:
        """For a slice of the new samples from a slice of the old ones; what lies outside it counts as 0."""
        index, weights = self.index[:, targets], self.weights[:, targets]
        inside = (index >= sources.start) & (index < sources.stop)
        return Taps(
            (index - sources.start).clip(0, sources.stop - sources.start - 1),
            weights if inside.all() else np.where(inside, weights, np.float32(0)),
        )


def linear_taps(old: int, new: int, *, antialias: bool = False) -> Taps:
    """From `old` samples to `new` over the same extent: half-pixel centres, edges clamped.

    Two taps a sample, or, when the axis shrinks and `antialias` is asked for, as many as the widened triangle covers.
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
    return Taps(np.where(weights > 0, index, heaviest), weights)


def gather(array: Array, index: npt.NDArray[np.intp], axis: int) -> Array:
    """The samples with these indices along one axis of an array (I, J, K); a contiguous copy."""
    if axis < 2:
        return array.take(index, axis=axis)
    # numpy copies the last axis element by element; flat indices of many rows at once are several times faster.
    rows = np.ascontiguousarray(array).reshape(-1, array.shape[2])
    result = np.empty((len(rows), len(index)), dtype=array.dtype)
    step = max(1, _BLOCK // max(rows.shape[1], len(index)))
    flat = np.arange(min(step, len(rows)))[:, None] * rows.shape[1] + index
    for start in range(0, len(rows), step):
        target = result[start : start + step]
        target[:] = rows[start : start + step].reshape(-1).take(flat[: len(target)])
    return result.reshape(*array.shape[:2], -1)
