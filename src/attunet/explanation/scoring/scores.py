"""Scores of an attention map for an organ: share of the attention, ranks of the voxels, position of the maximum.

Notation: a(v) in [0, 1] is the coefficient of voxel v; N voxels count, n of them are the organ's. A map that is zero
everywhere is treated as its limit: a constant map. Values that agree to about five significant digits are equal,
because blended windows and low-precision engines make equal coefficients differ in the last digits; otherwise rounding
errors would rank the voxels of a plateau."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.data.geometry import Voxel
from attunet.errors import DataError, GeometryError
from attunet.evaluation.overlap import Mask
from attunet.explanation.scoring.organs import REACH, Organ, Organs

__all__ = [
    "ATTENTION_METRICS",
    "CHANCE",
    "MAP_METRICS",
    "Floats",
    "Keys",
    "RankedMap",
    "auroc",
    "map_statistics",
    "order_keys",
    "rank_map",
    "score_map",
    "score_organs",
    "separation",
]


Floats = npt.NDArray[np.float32]

Keys = npt.NDArray[np.int32]

_DROPPED_BITS = 6  # of 23: values whose ratio is within about 4e-6 of 1 are equal

_PLATEAU = np.float32(1 - 2.0 ** (_DROPPED_BITS - 24))

_MOST_PLACES = 10_000


class RankedMap(NamedTuple):
    """A map (I, J, K), sorted once for all organs.

    Args:
        alpha: its values.
        ascending: the `order_keys` of the voxels that count, sorted.
        total: sum of the counted values.
        peak: index of the maximum.
        peak_voxels: number of voxels with the maximum.
        places: their indices (T, 3); a random sample of 10,000 with a fixed seed if there are more.
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
    """Integers in the order of non-negative values, equal for almost equal values."""
    # Bits of floats that are not negative have the order of their values; the mask takes the sign of -0.0, too.
    keys = alpha.view(np.int32) + np.int32(1 << (_DROPPED_BITS - 1))
    keys &= np.int32(0x7FFFFFFF & -(1 << _DROPPED_BITS))
    return keys


def separation(ascending: Keys, own: Keys) -> tuple[float, float]:
    """Area under the ROC curve and average precision of an organ, both exact with ties.

    The area is Mann and Whitney's U of mean ranks / (n (N - n)); the precision at a threshold is the organ's share of
    the voxels at or above it, and its mean is taken over the organ's voxels, each at its own value.
    Args: the sorted keys of all N voxels, and the keys of the organ's n voxels.
    Returns: the area, nan unless there are voxels inside and outside, and the precision, nan without an organ.
    """
    if not len(own):
        return nan, nan
    values, counts = np.unique(own, return_counts=True)
    below, upto = (ascending.searchsorted(values, side) for side in ("left", "right"))
    size, voxels = len(ascending), len(own)
    above = voxels - np.cumsum(counts) + counts  # the organ's voxels at or above each value
    precision = float((counts * (above / (size - below))).sum()) / voxels
    if size == voxels:
        return nan, precision
    ranks = float((counts * ((below + upto + 1) / 2)).sum())
    return (ranks - voxels * (voxels + 1) / 2) / (voxels * (size - voxels)), precision


ATTENTION_METRICS: Mapping[str, str] = {
    "share": "attention mass inside the organ: sum of a over the organ / sum of a; by chance the volume fraction",
    "volume_fraction": "the organ's share of the voxels, n / N",
    "lift": "share / volume fraction: how many times as much attention as chance; 1 is no particular attention",
    "pointing": "pointing game: 1 if the maximum of a lies in the organ, else 0; of equal maxima the share that does",
    "distance": "distance from the maximum of a to the organ, mm; 0 inside; of equal maxima the mean",
    "auroc": "chance that a is higher in a voxel of the organ than in one outside, ties counted half; chance is 0.5",
    "average_precision": "mean precision of the voxels with a >= t, t the organ's own values; by chance the fraction",
    "inside": "mean of a inside the organ",
    "outside": "mean of a outside the organ",
    "contrast": "inside - outside; by chance 0",
    "boundary_share": "attention mass within reach (5 mm) of the organ's boundary / sum of a",
    "boundary_lift": "boundary share / share of the voxels that lie within that reach; by chance 1",
}
"""Metrics of a map and an organ. All are nan if the organ is absent; if it fills the whole counted region, so are the
metrics that need an outside (auroc, outside, contrast) or a boundary."""

MAP_METRICS: Mapping[str, str] = {
    "mean": "mean of a",
    "sd": "standard deviation of a over the voxels",
    "entropy": "-sum of m log m / log N with m = a / sum of a: 1 is uniform, 0 is all in one voxel",
    "closed": "share of the voxels with a < 0.05",
    "open": "share of the voxels with a > 0.95",
}
"""Metrics of a map alone."""

CHANCE: Mapping[str, float] = {"lift": 1.0, "auroc": 0.5, "contrast": 0.0, "boundary_lift": 1.0}
"""Expected scores of a map that is independent of the organ."""

CLOSED, OPEN = 0.05, 0.95

_SLACK = 1e-3


def score_map(
    alpha: npt.ArrayLike, organ: Mask, voxel: Voxel, *, ignored: Mask | None = None, reach: float = REACH
) -> dict[str, float]:
    """The `ATTENTION_METRICS` of one map for one organ.

    Args:
        alpha: coefficients (I, J, K) in [0, 1], cut to the box in which attention is defined.
        organ: boolean (I, J, K), cut to the same box.
        voxel: its size in mm, array order, or its edges, see `attunet.data.geometry.Voxel`.
        ignored: voxels to leave out; None for none.
        reach: width of the boundary zone on each side of the boundary, mm.
    Returns: the scores by the keys of `ATTENTION_METRICS`.
    Raises: GeometryError when the shapes differ, DataError for coefficients outside [0, 1].
    """
    return score_organs(alpha, Organs.of({"organ": organ}, voxel, ignored=ignored, reach=reach))["organ"]


def score_organs(alpha: npt.ArrayLike, organs: Organs) -> dict[str, dict[str, float]]:
    """The `ATTENTION_METRICS` of one map for every organ, by label; the map is sorted once. Raises: as `score_map`."""
    checked = _same_shape(_checked(alpha), organs.shape)
    scores = {label: dict.fromkeys(ATTENTION_METRICS, nan) for label in organs.organs}
    present = {label: organ for label, organ in organs.organs.items() if organ is not None}
    if present:
        ranked = rank_map(checked, organs.counted)
        scores |= {label: _score(ranked, organ) for label, organ in present.items()}
    return scores


def auroc(alpha: npt.ArrayLike, mask: Mask) -> float:
    """Only the AUROC, of coefficients (I, J, K) in [0, 1] for a boolean array; nan if this is all true or all false.

    Raises: as `score_map`.
    """
    keys = order_keys(_same_shape(_checked(alpha), mask.shape))
    return separation(np.sort(keys.ravel()), keys[mask])[0]


def map_statistics(alpha: npt.ArrayLike) -> dict[str, float]:
    """The `MAP_METRICS` of a map (I, J, K). Raises: DataError for coefficients outside [0, 1]."""
    values = _checked(alpha)
    mean = float(values.mean(dtype=np.float64))
    return {
        "mean": mean,
        "sd": float(values.std(dtype=np.float64)),
        "entropy": _entropy(values, mean * values.size),
        "closed": float((values < CLOSED).mean()),
        "open": float((values > OPEN).mean()),
    }


def _checked(alpha: npt.ArrayLike) -> Floats:
    """Float32 in [0, 1]; values slightly outside, from interpolation and averages, are clipped."""
    values = np.ascontiguousarray(alpha, dtype=np.float32)
    if values.ndim != 3 or not values.size:
        raise DataError(f"attention of shape {values.shape}, expected (I, J, K)", hint="pass one map at a time")
    low, high = float(values.min()), float(values.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # so that nan fails
        raise DataError(f"attention from {low:g} to {high:g}, expected [0, 1]", hint="pass the gate's coefficients")
    return np.clip(values, 0, 1) if low < 0 or high > 1 else values


def _same_shape(alpha: Floats, shape: tuple[int, ...]) -> Floats:
    if alpha.shape != shape:
        raise GeometryError(f"a map of shape {alpha.shape} for organs on {shape}", hint="cut both to the content box")
    return alpha


def _entropy(values: Floats, total: float) -> float:
    if not total or values.size == 1:
        return 1.0
    logs = np.log(np.maximum(values, np.finfo(np.float32).tiny))
    weighted = float(np.multiply(values, logs, out=logs).sum(dtype=np.float64))
    return min(1.0, max(0.0, (log(total) - weighted / total) / log(values.size)))


def _score(ranked: RankedMap, organ: Organ) -> dict[str, float]:
    voxels, size = organ.voxels, len(ranked.ascending)
    own, around = (ranked.alpha[organ.box][part] for part in (organ.mask, organ.zone))
    held, near = (float(values.sum(dtype=np.float64)) for values in (own, around))
    fraction, zone = voxels / size, organ.zone_voxels / size
    share, boundary = (held / ranked.total, near / ranked.total) if ranked.total else (fraction, zone)
    area, precision = separation(ranked.ascending, order_keys(own))
    inside = held / voxels
    outside = (ranked.total - held) / (size - voxels) if size > voxels else nan
    return {
        "share": share,
        "volume_fraction": fraction,
        "lift": share / fraction,
        "pointing": float(np.count_nonzero(ranked.peak[organ.box] & organ.mask) / ranked.peak_voxels),
        "distance": float(organ.distances(ranked.places).mean()),
        "auroc": area,
        "average_precision": precision,
        "inside": inside,
        "outside": outside,
        "contrast": inside - outside,
        "boundary_share": boundary if zone else nan,
        "boundary_lift": boundary / zone if zone else nan,
    }
