"""`CoarseMap`: probabilities on a coarse grid, read window by window on the grid of the fine network.

The context of a training patch and of a prediction's window are the same numbers, and no array of the fine grid's size
is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.resample import InterpolationWeights, Resizing, linear_weights

__all__ = ["CoarseMap", "context_channels", "foreground_probability"]

Floats = npt.NDArray[np.float32]
Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class CoarseMap:
    """Values on a coarse grid that covers the same extent as a finer one.

    Args:
        values: float32 (C, i, j, k) on the coarse grid.
        shape: shape of the fine grid.
    """

    values: Floats
    shape: Triple

    def window(self, start: Sequence[int], size: Sequence[int]) -> Floats:
        """The values of a window of the fine grid, by linear interpolation; beyond the grid, its edge is repeated.

        Every voxel takes the same operations in any window, so the numbers are equal.

        Args:
            start: the window's first voxel on the fine grid; may be negative.
            size: of the window in voxels.
        Returns: float32 (C, *size).
        """
        parts = [
            _window_weights(weights, int(low), int(length))
            for weights, low, length in zip(self._weights, start, size, strict=True)
        ]
        (rows, i), (columns, j), (layers, k) = parts
        sources = self.values[:, rows, columns, layers]
        old = sources.shape[1:]
        resizing = Resizing((old[0], old[1], old[2]), (len(i), len(j), len(k)), (i, j, k), self._order)
        return np.stack([resizing(channel) for channel in sources])

    def cropped(self, box: tuple[slice, slice, slice]) -> CoarseMap:
        """The map of a box of the fine grid, with whole coarse voxels: near enough to measure time."""
        sizes = zip(box, self.values.shape[1:], self.shape, strict=True)
        parts = [slice(part.start * old // new, -(-part.stop * old // new)) for part, old, new in sizes]
        i, j, k = (part.stop - part.start for part in box)
        return CoarseMap(self.values[:, *parts], (i, j, k))

    @cached_property
    def _weights(self) -> tuple[InterpolationWeights, InterpolationWeights, InterpolationWeights]:
        i, j, k = (linear_weights(old, new) for old, new in zip(self.values.shape[1:], self.shape, strict=True))
        return i, j, k

    @cached_property
    def _order(self) -> tuple[int, ...]:
        """The axes, those that grow least first: the last pass then makes most of the data."""
        old = self.values.shape[1:]
        return tuple(sorted(range(3), key=lambda axis: self.shape[axis] / old[axis]))


def context_channels(plan: Plan, probabilities: Floats) -> Floats:
    """The context channels of the fine network.

    Args:
        plan: a plan with a localizer.
        probabilities: of its localizer, (outputs, i, j, k): of each label with background first, or of each region.
    Returns: float32 (C, i, j, k), in the order of `plan.context`; C is 0 without context.
    """
    if not plan.context:
        return probabilities[:0]
    if plan.context == plan.foreground:
        return probabilities[-len(plan.foreground) :]
    return foreground_probability(plan, probabilities)[None]


def foreground_probability(plan: Plan, probabilities: Floats) -> Floats:
    """The probability of any foreground label; of regions, which overlap, the highest.

    Args:
        plan: the plan.
        probabilities: (outputs, i, j, k).
    Returns: float32 (i, j, k).
    """
    if plan.regions:
        return np.asarray(probabilities.max(axis=0), np.float32)
    return np.asarray(1 - probabilities[0], np.float32)


def _window_weights(weights: InterpolationWeights, start: int, size: int) -> tuple[slice, InterpolationWeights]:
    """The old samples that a window needs, and its weights from them."""
    targets = np.clip(np.arange(start, start + size), 0, len(weights) - 1)
    index = weights.index[:, targets]
    reach = slice(int(index.min()), int(index.max()) + 1)
    return reach, InterpolationWeights(index - reach.start, weights.weights[:, targets])
