"""The scores of a case in summary.json: nnU-Net's keys, labels by value, nan as null."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from math import isfinite, isnan
from typing import Any

from attunet.data.labels import Values
from attunet.evaluation.metrics import METRICS
from attunet.evaluation.overlap import Counts
from attunet.evaluation.scores import CaseScores, LabelScores

__all__ = ["RULES", "case_from_json", "case_to_json", "key_of", "plain", "values_from_json"]

RULES: Mapping[str, str] = {
    "both_empty": "Neither reference nor prediction has a voxel of the label: every metric but the counts is null; "
    "the case is counted under 'empty' and left out of the means.",
    "one_empty": "Exactly one of the two is empty: Dice, IoU, precision and both recalls are 0, MSD and HD95 are "
    "the image diagonal in mm, the relative volume error is +1 (empty reference) or -1 (empty prediction).",
    "missing_predictions": "A reference without a prediction file is scored as an empty prediction.",
    "failed": "A case whose files could not be read or compared is listed with the reason, and counts nowhere.",
    "extra_predictions": "A prediction without a reference is listed and not scored.",
    "not_annotated": "A label that is not annotated in a case has no scores in it and counts nowhere.",
    "regions": "A region is the union of its values in the reference and in the prediction.",
    "mean": "Mean over the cases in which the label is in the reference or the prediction; 'sd' is the "
    "sample standard deviation; foreground_mean is the mean of the labels' means.",
    "ci95": "95% percentile bootstrap interval of the mean: cases drawn with replacement, 2000 times, seed 0.",
}


MOST_VOXELS = 2**53  # which a float holds exactly


def key_of(value: Values) -> str:
    """The key of a label or region, as nnU-Net writes it: "3" or "(1, 2, 3)"."""
    return str(value[0] if isinstance(value, tuple) and len(value) == 1 else value)


def values_from_json(value: object) -> Values:
    """A label's value, or a region's values, from JSON. Raises: ValueError or TypeError for anything else."""
    if isinstance(value, list):
        return tuple(int(entry) for entry in value)
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not a label value")
    return value


def plain(value: float) -> float | None:
    """A number as JSON can hold it: None for nan."""
    return None if isnan(value) else value


def case_to_json(case: CaseScores, labels: Mapping[str, Values]) -> dict[str, Any]:
    """One entry of metric_per_case. Args: the case; label name to value."""
    metrics = {
        key_of(labels[name]): {metric: plain(value) for metric, value in scores.values().items()}
        for name, scores in case.scores.items()
    }
    return {
        "case": case.case,
        "reference_file": case.reference_file,
        "prediction_file": case.prediction_file,
        "missing": case.missing,
        "metrics": metrics,
    }


def case_from_json(entry: dict[str, Any], labels: Mapping[str, Values]) -> CaseScores:
    """The case that `case_to_json` wrote. Raises: KeyError, TypeError or ValueError for any other entry."""
    metrics, keys = entry["metrics"], {name: key_of(value) for name, value in labels.items()}
    files = [None if entry[name] is None else str(entry[name]) for name in ("reference_file", "prediction_file")]
    return CaseScores(
        case=str(entry["case"]),
        scores={name: _label_from_json(metrics[key]) for name, key in keys.items() if key in metrics},
        reference_file=files[0],
        prediction_file=files[1],
        missing=bool(entry["missing"]),
    )


def _label_from_json(values: dict[str, Any]) -> LabelScores:
    """A metric that an older file lacks is nan."""
    counts = {kind.lower(): int(values[kind]) for kind in ("TP", "FP", "FN", "TN")}
    measured = {name: values.get(name) for name, spec in METRICS.items() if spec.of_masks is not None}
    known = {name: float(value) for name, value in measured.items() if value is not None}
    if not all(map(isfinite, known.values())) or not all(0 <= number <= MOST_VOXELS for number in counts.values()):
        raise ValueError(f"{reprlib.repr(values)} are no scores of a label")
    return LabelScores(Counts(**counts), known)
