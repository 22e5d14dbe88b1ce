"""The scores of one case: label by label, from two integer arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isnan, nan, prod
from statistics import fmean
from typing import Self, TypeVar

import numpy as np

from attunet.config import Plan
from attunet.data.geometry import Array, Voxel
from attunet.data.labels import Values, background_value
from attunet.evaluation.metrics import METRICS, MaskPair
from attunet.evaluation.overlap import Counts, Mask, count, require_same_shape

__all__ = [
    "CaseScores",
    "LabelScores",
    "dice_case",
    "foreground",
    "label_values",
    "nan_mean",
    "score_case",
    "scored_labels",
]

V = TypeVar("V", bound=Values)


@dataclass(frozen=True)
class LabelScores:
    """The scores of one label in one case: every metric of `METRICS`, nan where both masks are empty.

    Args:
        counts: numbers of true and false positives and negatives.
        measured: the value of each metric that is computed from the masks, by name.
    """

    counts: Counts
    measured: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def absent(cls, voxels: int) -> Self:
        """Scores of a label that is in neither mask, for an image of this many voxels."""
        return cls(Counts(tp=0, fp=0, fn=0, tn=voxels))

    def values(self) -> dict[str, float]:
        """Every metric by its name in `METRICS`."""
        return dict(self._values)

    @cached_property
    def _values(self) -> dict[str, float]:
        return {
            name: self.measured.get(name, nan) if spec.of_counts is None else spec.of_counts(self.counts)
            for name, spec in METRICS.items()
        }


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case.

    Args:
        case: name of the case.
        scores: label name to its scores, of the labels annotated in this case.
        reference_file: file of the reference, if any.
        prediction_file: file of the prediction, if any.
        missing: whether there was no prediction, so that an empty one was scored.
    """

    case: str
    scores: Mapping[str, LabelScores] = field(default_factory=dict)
    reference_file: str | None = None
    prediction_file: str | None = None
    missing: bool = False

    @property
    def mean_dice(self) -> float:
        """Mean Dice of the labels that are in the reference or the mask; nan if there is none."""
        return nan_mean(entry.counts.dice for entry in self.scores.values())


def foreground(labels: Mapping[str, V]) -> dict[str, V]:
    """The labels that are scored: all but the background, which is the label of that name, or else the value 0.

    A tuple is a region and never the background, so (0,) keeps a foreground label of value 0.
    """
    background = background_value({name: value for name, value in labels.items() if isinstance(value, int)})
    return {name: value for name, value in labels.items() if value != background}


def scored_labels(plan: Plan) -> dict[str, Values]:
    """The labels that a model is scored on: every region with the values it unites, or every foreground label."""
    return dict(plan.regions) or label_values({name: plan.labels[name] for name in plan.foreground})


def label_values(values: Mapping[str, Values]) -> dict[str, Values]:
    """Foreground labels, with a value of 0 as a tuple, so that it does not count as background."""
    return {name: value or (0,) for name, value in values.items()}


def score_case(
    reference: Array,
    prediction: Array,
    labels: Mapping[str, Values],
    voxel: Voxel,
    *,
    ignore: int | None = None,
    annotated: Collection[str] | None = None,
) -> dict[str, LabelScores]:
    """Score one prediction, label by label, the background left out.

    Args:
        reference: integer array (I, J, K).
        prediction: integer array on the same grid.
        labels: label name to its value in both arrays, or region to the values that it unites.
        voxel: its size in mm, array order, or its edges, see `attunet.data.geometry.Voxel`.
        ignore: value in the reference whose voxels are left out of every metric.
        annotated: names of the labels that are annotated in this case, the only ones to be scored; None for all.
    Returns: label name to its scores.
    Raises: GeometryError when the shapes differ.
    """
    require_same_shape(reference, prediction)
    voxels = int(reference.size)
    if ignore is not None:
        ignored = reference == ignore
        voxels -= int(np.count_nonzero(ignored))
        prediction = np.where(ignored, ignore, prediction)
    selected = {name: value for name, value in foreground(labels).items() if annotated is None or name in annotated}
    return {
        name: _score_masks(_mask(reference, value), _mask(prediction, value), voxel, voxels)
        for name, value in selected.items()
        if value != ignore
    }


def dice_case(
    reference: Array, prediction: Array, plan: Plan, annotated: Collection[str] | None = None
) -> dict[str, float]:
    """The Dice of each annotated label, as `score_case` computes it, without the slow surface distances.

    Args:
        reference: integer array (I, J, K).
        prediction: integer array on the same grid.
        plan: its labels or regions are scored, its ignored voxels left out.
        annotated: names of the labels that are annotated in this case; None for all.
    Returns: label name to Dice; nan where the label is in neither mask.
    Raises: GeometryError when the shapes differ.
    """
    require_same_shape(reference, prediction)
    known = np.True_ if plan.ignore_label is None else reference != plan.ignore_label
    return {
        name: count(np.isin(reference, values) & known, np.isin(prediction, values) & known).dice
        for name, values in scored_labels(plan).items()
        if annotated is None or name in annotated
    }


def nan_mean(values: Iterable[float]) -> float:
    """Mean of the values that are not nan; nan when there are none."""
    known = [float(value) for value in values if not isnan(value)]
    return fmean(known) if known else nan


def _mask(array: Array, value: Values) -> Mask:
    return np.isin(array, value) if isinstance(value, tuple) else array == value


def _score_masks(reference: Mask, prediction: Mask, voxel: Voxel, voxels: int) -> LabelScores:
    """`voxels`: those of the image that are not ignored."""
    counts = count(reference, prediction)
    if counts.both_empty:
        return LabelScores.absent(voxels)
    pair = MaskPair(reference, prediction, voxel, counts)
    measured = {name: spec.of_masks(pair) for name, spec in METRICS.items() if spec.of_masks is not None}
    ignored = int(prod(reference.shape)) - voxels
    return LabelScores(replace(counts, tn=counts.tn - ignored), measured)
