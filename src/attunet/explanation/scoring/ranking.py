"""The order of a map's voxels: sorted once, asked for every organ.

Values are told apart to about five significant digits, because stitched windows and engines of few bits make equal
coefficients differ in the last ones: a plateau would else be ranked by rounding errors.
"""

from __future__ import annotations

from math import nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.evaluation.metrics import Mask

__all__ = ["Floats", "Keys", "RankedMap", "order_keys", "rank_map", "separation"]

Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.int32]

_DROPPED_BITS = 6  # of 23: values whose ratio is within about 4e-6 of 1 are equal
_PLATEAU = np.float32(1 - 2.0 ** (_DROPPED_BITS - 24))
_MOST_PLACES = 10_000


class RankedMap(NamedTuple):
    """A map (I, J, K), looked at once for all organs.

    Args:
        alpha: its values.
        ascending: the `order_keys` of the voxels that count, sorted.
        total: sum of the values that count.
        peak: where the maximum is; peak_voxels: at how many voxels.
        places: their indices (T, 3); of more than 10,000 so many, drawn with a fixed seed.
    """

    alpha: Floats
    ascending: Keys
    total: float
    peak: Mask
    peak_voxels: int
    places: npt.NDArray[np.intp]


def rank_map(alpha: Floats, counted: Mask | None = None) -> RankedMap:
    """Sort a map of values in [0, 1], contiguous (I, J, K); at least one voxel must count, None for all."""
    known = alpha.ravel() if counted is None else alpha[counted]
    ascending = order_keys(known)
    ascending.sort()
    peak = alpha >= known.max() * _PLATEAU
    if counted is not None:
        peak &= counted
    places = np.flatnonzero(peak)
    vast = len(places) > _MOST_PLACES
    picked = np.random.default_rng(0).choice(places, _MOST_PLACES) if vast else places
    return RankedMap(
        alpha=alpha,
        ascending=ascending,
        total=float(known.sum(dtype=np.float64)),
        peak=peak,
        peak_voxels=len(places),
        places=np.stack(np.unravel_index(picked, alpha.shape), axis=1),
    )


def order_keys(alpha: Floats) -> Keys:
    """Integers in the order of values of at least 0, equal for almost equal values."""
    # Bits of floats that are not negative have the order of their values; the mask takes the sign of -0.0, too.
    keys = alpha.view(np.int32) + np.int32(1 << (_DROPPED_BITS - 1))
    keys &= np.int32(0x7FFFFFFF & -(1 << _DROPPED_BITS))
    return keys


def separation(ascending: Keys, own: Keys) -> tuple[float, float]:
    """Area under the ROC curve and average precision of an organ, both exact with ties.

    The area is Mann and Whitney's U of mean ranks / (n (N - n)); the precision at a threshold is the organ's share of
    the voxels at or above it, and its mean is taken over the organ's voxels, each at its own value.
    Args: the keys of all N voxels, sorted; those of the organ's n, a part of them.
    Returns: nan for an area without two sides, and for both without an organ.
    """
    if not len(own):
        return nan, nan
    values, counts = np.unique(own, return_counts=True)
    below, upto = (ascending.searchsorted(values, side) for side in ("left", "right"))
    size, voxels = len(ascending), len(own)
    found = voxels - np.cumsum(counts) + counts  # the organ's voxels at or above each value
    precision = float((counts * (found / (size - below))).sum()) / voxels
    if size == voxels:
        return nan, precision
    ranks = float((counts * ((below + upto + 1) / 2)).sum())
    return (ranks - voxels * (voxels + 1) / 2) / (voxels * (size - voxels)), precision
