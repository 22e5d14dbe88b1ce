"""Predicted and true volumes in ml of every label, from the scores of cases."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from statistics import median
from typing import NamedTuple

from attunet.evaluation.scores import CaseScores

__all__ = ["VolumePair", "volume_pairs"]

_VOLUME_ERROR = "VolumeErrorMl"


class VolumePair(NamedTuple):
    """The volumes of a label in one case, in ml.

    Args:
        row: index of the case.
        predicted: volume of the predicted mask.
        true: volume of the reference.
    """

    row: int
    predicted: float
    true: float


def volume_pairs(scores: Sequence[CaseScores], labels: Sequence[str]) -> dict[str, list[VolumePair]]:
    """The volumes of each label in the cases in which it is annotated; ignored voxels are left out of both.

    Args:
        scores: scores of the cases.
        labels: the labels in order.
    Returns: label to its volumes.
    """
    voxels = [_voxel_ml(case) for case in scores]
    known = [voxel for voxel in voxels if voxel is not None]
    typical = median(known) if known else nan
    pairs: dict[str, list[VolumePair]] = {label: [] for label in labels}
    for row, (case, found) in enumerate(zip(scores, voxels, strict=True)):
        # where no volume is wrong, the scores do not tell the size of a voxel, and that of other cases stands in for it
        voxel = typical if found is None else found
        for label in labels:
            if label in case.scores:
                counts = case.scores[label].counts
                pairs[label].append(VolumePair(row, _ml(counts.n_pred, voxel), _ml(counts.n_ref, voxel)))
    return pairs


def _ml(count: int, voxel: float) -> float:
    return count * voxel if count else 0.0


def _voxel_ml(case: CaseScores) -> float | None:
    """The volume of a voxel, from the volume error of any label in ml and in voxels; None when all are exact."""
    for entry in case.scores.values():
        difference, error = entry.counts.n_pred - entry.counts.n_ref, entry.measured.get(_VOLUME_ERROR, nan)
        if difference and isfinite(error):
            return error / difference
    return None
