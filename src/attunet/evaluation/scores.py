"""The scores of one case: label by label, from two integer arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan, prod
from typing import Self

import numpy as np

from attunet.data.volume import Array, Spacing
from attunet.evaluation.metrics import Counts, count, require_same_shape
from attunet.evaluation.surface import surface_scores

__all__ = ["METRICS", "CaseScores", "LabelScores", "foreground", "score_case"]

METRICS: Mapping[str, str] = {
    "Dice": "Dice",
    "IoU": "intersection over union",
    "Precision": "precision",
    "Recall": "recall",
    "MSD": "mean symmetric surface distance, mm",
    "HD95": "95th-percentile Hausdorff distance, mm",
    "VolumeErrorMl": "predicted minus reference volume, ml",
    "RelativeVolumeError": "volume error as a share of the reference volume",
    "TP": "true positive voxels",
    "FP": "false positive voxels",
    "FN": "false negative voxels",
    "TN": "true negative voxels",
    "n_pred": "predicted voxels",
    "n_ref": "reference voxels",
}


@dataclass(frozen=True)
class LabelScores:
    """Every metric of one label in one case; nan where both masks are empty."""

    counts: Counts
    surface_distance: float
    hd95: float
    volume_error_ml: float
    relative_volume_error: float

    @classmethod
    def absent(cls, voxels: int) -> Self:
        """Scores of a label that is in neither mask of an image of so many voxels."""
        return cls(Counts(tp=0, fp=0, fn=0, tn=voxels), nan, nan, nan, nan)

    def values(self) -> dict[str, float]:
        """The metrics under the names of `METRICS`."""
        counts = self.counts
        return {
            "Dice": counts.dice,
            "IoU": counts.iou,
            "Precision": counts.precision,
            "Recall": counts.recall,
            "MSD": self.surface_distance,
            "HD95": self.hd95,
            "VolumeErrorMl": self.volume_error_ml,
            "RelativeVolumeError": self.relative_volume_error,
            "TP": counts.tp,
            "FP": counts.fp,
            "FN": counts.fn,
            "TN": counts.tn,
            "n_pred": counts.n_pred,
            "n_ref": counts.n_ref,
        }


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case.

    Args:
        case: name of the case.
        scores: label name to its scores.
        reference_file, prediction_file: where the masks came from, if from files.
        missing: whether there was no prediction, so that an empty one was scored.
    """

    case: str
    scores: Mapping[str, LabelScores] = field(default_factory=dict)
    reference_file: str | None = None
    prediction_file: str | None = None
    missing: bool = False


def foreground(labels: Mapping[str, int]) -> dict[str, int]:
    """The labels that are scored: all but the background (value 0, or named so)."""
    return {name: value for name, value in labels.items() if value != 0 and name != "background"}


def score_case(
    reference: Array,
    prediction: Array,
    labels: Mapping[str, int],
    spacing: Spacing,
    *,
    ignore: int | None = None,
) -> dict[str, LabelScores]:
    """Score one prediction, label by label, the background left out.

    Args:
        reference, prediction: integer arrays (I, J, K) on one grid.
        labels: label name to its value in both arrays.
        spacing: mm, array order.
        ignore: value in the reference whose voxels are left out of every metric.
    Raises: GeometryError when the shapes differ.
    """
    require_same_shape(reference, prediction)
    voxels = int(reference.size)
    if ignore is not None:
        ignored = reference == ignore
        voxels -= int(np.count_nonzero(ignored))
        prediction = np.where(ignored, ignore, prediction)
    scored = {name: value for name, value in foreground(labels).items() if value != ignore}
    return {name: _score_label(reference, prediction, value, spacing, voxels) for name, value in scored.items()}


def _score_label(reference: Array, prediction: Array, value: int, spacing: Spacing, voxels: int) -> LabelScores:
    wanted, found = reference == value, prediction == value
    counts = count(wanted, found)
    if counts.both_empty:
        return LabelScores.absent(voxels)
    surface = surface_scores(wanted, found, spacing)
    volume = counts.volume_error(spacing)
    outside = int(prod(reference.shape)) - voxels
    return LabelScores(
        counts=Counts(tp=counts.tp, fp=counts.fp, fn=counts.fn, tn=counts.tn - outside),
        surface_distance=surface.mean,
        hd95=surface.hd95,
        volume_error_ml=volume.ml,
        relative_volume_error=volume.relative,
    )
