"""Attention as quality control: agreement of a model's attention with its mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attunet.config import RankCorrelation
from attunet.data.geometry import rounded, voxel_ml
from attunet.data.volume import Volume
from attunet.evaluation.bootstrap import correlation_interval
from attunet.explanation.scoring.scores import auroc
from attunet.gates import is_localizer_map
from attunet.inference.prediction import Prediction

__all__ = ["AttendedRegion", "AttentionAgreement", "attention_agreement", "mean_attention", "rank_correlation"]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

MIN_REGION_ML = 0.05
"""Smaller regions in ml are ignored: they are ragged borders of the threshold."""

MIN_REGION_SHARE = 1e-3
"""In images of small objects, regions down to this share of the image count."""

MAX_REGIONS = 3


@dataclass(frozen=True)
class AttendedRegion:
    """A connected region: its size in ml, and its centre in RAS+ mm."""

    ml: float
    centre: tuple[float, float, float]


@dataclass(frozen=True)
class AttentionAgreement:
    """Agreement of attention and mask in one case.

    Args:
        score: AUROC of the mean attention of all gates for the predicted foreground: 1 when every voxel of the mask has
            more attention than any other, 0.5 at chance; nan when nothing or everything is segmented.
        threshold: half-way between the mean attention inside the mask and outside; voxels above it are attended.
        attended_only_ml, segmented_only_ml: millilitres attended but not segmented, and the reverse.
        attended_only, segmented_only: the largest connected regions of each.
    """

    score: float
    threshold: float
    attended_only_ml: float
    segmented_only_ml: float
    attended_only: tuple[AttendedRegion, ...]
    segmented_only: tuple[AttendedRegion, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; None where a number is unknown."""
        values = asdict(self)
        return values | {key: None for key in ("score", "threshold") if isnan(values[key])}


def mean_attention(attention: Mapping[str, Volume]) -> Floats:
    """The mean (I, J, K) over all maps of all gates; the map of a localizer counts only where there are no gates."""
    gates = [volume for name, volume in attention.items() if not is_localizer_map(name)] or attention.values()
    return np.asarray(np.mean([volume.array.mean(axis=0) for volume in gates], axis=0), np.float32)


def attention_agreement(prediction: Prediction) -> AttentionAgreement:
    """Compare the attention of a prediction with its mask, within the box in which attention is defined.

    Args: a prediction with attention, by a model with gates.
    """
    attention = mean_attention(prediction.attention)[prediction.content]
    background = next(iter(prediction.labels.values()))
    mask = prediction.segmentation.array[0][prediction.content] != background
    if not mask.any() or mask.all():
        return AttentionAgreement(nan, nan, 0.0, 0.0, (), ())
    threshold = float(attention[mask].mean() + attention[~mask].mean()) / 2
    attended = attention > threshold
    attended_only, segmented_only = attended & ~mask, mask & ~attended
    grid, voxel = prediction.segmentation, voxel_ml(prediction.segmentation.voxel)
    parts = zip(prediction.content, grid.spatial_shape, strict=True)
    corner = [part.indices(size)[0] for part, size in parts]
    return AttentionAgreement(
        round(auroc(attention, mask), 4),
        round(threshold, 4),
        rounded(float(attended_only.sum()) * voxel, 3),
        rounded(float(segmented_only.sum()) * voxel, 3),
        _largest(attended_only, grid, corner),
        _largest(segmented_only, grid, corner),
    )


def rank_correlation(scores: Mapping[str, float], dice: Mapping[str, float]) -> RankCorrelation | None:
    """How well a score ranks cases by their Dice; None for fewer than three cases, or a constant score.

    Args: score and mean Dice by case; cases with a nan in either are left out.
    """
    known = [case for case in scores if case in dice and not isnan(scores[case]) and not isnan(dice[case])]
    x, y = ([values[case] for case in known] for values in (scores, dice))
    low, high = correlation_interval(x, y)
    if isnan(low):
        return None
    from scipy.stats import spearmanr  # costs half a second

    return RankCorrelation(cases=len(known), spearman=float(spearmanr(x, y).statistic), low=low, high=high)


def _largest(mask: Mask, grid: Volume, corner: Sequence[int]) -> tuple[AttendedRegion, ...]:
    components, count = ndimage.label(mask)
    if not count:
        return ()
    voxels = np.bincount(components.ravel())[1:]
    each_ml = voxel_ml(grid.voxel)
    smallest = min(MIN_REGION_ML, MIN_REGION_SHARE * mask.size * each_ml)
    order = [index for index in np.argsort(-voxels)[:MAX_REGIONS] if voxels[index] * each_ml >= smallest]
    centres = ndimage.center_of_mass(mask, components, [index + 1 for index in order])
    return tuple(
        AttendedRegion(rounded(float(voxels[index]) * each_ml, 3), _in_mm(np.add(centre, corner), grid))
        for index, centre in zip(order, centres, strict=True)
    )


def _in_mm(voxel: npt.NDArray[np.float64], grid: Volume) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 1) for value in (grid.affine @ [*voxel, 1.0])[:3])
    return x, y, z
