"""`Summary`: the scores of many cases and their means; nnU-Net's summary.json, extended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Self

from attunet.errors import FormatError
from attunet.evaluation.metrics import Counts
from attunet.evaluation.scores import METRICS, CaseScores, LabelScores, foreground
from attunet.files import write_text

__all__ = ["RULES", "Summary", "summarize"]

RULES: Mapping[str, str] = {
    "both_empty": "Reference and prediction hold no voxel of the label: every metric but the counts is null; "
    "the case is counted under 'empty' and left out of the means.",
    "one_empty": "Exactly one of the two is empty: Dice, IoU, precision and recall are 0, MSD and HD95 are "
    "the image diagonal in mm, the relative volume error is +1 (empty reference) or -1 (empty prediction).",
    "missing_predictions": "A reference without a prediction file is scored as an empty prediction.",
    "extra_predictions": "A prediction without a reference is listed and not scored.",
    "mean": "Mean over the cases in which the label is in the reference or the prediction; 'sd' is the "
    "sample standard deviation; foreground_mean is the mean of the labels' means.",
}


@dataclass(frozen=True)
class Summary:
    """The scores of many cases.

    Args:
        labels: name to value of the labels scored, background left out.
        cases: one entry per reference.
        extra_predictions: predictions without a reference.
    """

    labels: Mapping[str, int]
    cases: tuple[CaseScores, ...]
    extra_predictions: tuple[str, ...] = ()

    @property
    def missing_predictions(self) -> tuple[str, ...]:
        """Names of the cases that were scored as empty for want of a prediction."""
        return tuple(case.case for case in self.cases if case.missing)

    def values(self, label: str, metric: str = "Dice") -> dict[str, float]:
        """Case name to value of a metric (a key of `METRICS`), without the cases that are empty in both."""
        found = {case.case: case.scores[label].values()[metric] for case in self.cases if label in case.scores}
        return {case: value for case, value in found.items() if not isnan(value)}

    def mean(self, label: str, metric: str = "Dice") -> float:
        """Mean over the cases that count; nan when there is none."""
        return _mean(self.values(label, metric).values())

    def deviation(self, label: str, metric: str = "Dice") -> float:
        """Sample standard deviation over the cases that count; nan for fewer than two."""
        found = list(self.values(label, metric).values())
        return stdev(found) if len(found) > 1 else nan

    def foreground_mean(self, metric: str = "Dice") -> float:
        """Mean of the labels' means; nan when no label occurs anywhere."""
        means = (self.mean(label, metric) for label in self.labels)
        return _mean(value for value in means if not isnan(value))

    def worst(self, label: str) -> tuple[str, float] | None:
        """Case with the lowest Dice and that Dice; None when no case counts."""
        found = self.values(label)
        return min(found.items(), key=lambda item: item[1]) if found else None

    def empty(self, label: str) -> dict[str, int]:
        """Cases in which both masks, only the reference, or only the prediction is empty."""
        counts = [case.scores[label].counts for case in self.cases if label in case.scores]
        return {
            "both": sum(entry.both_empty for entry in counts),
            "reference_only": sum(entry.one_empty and entry.n_ref == 0 for entry in counts),
            "prediction_only": sum(entry.one_empty and entry.n_pred == 0 for entry in counts),
        }

    def to_dict(self) -> dict[str, Any]:
        """nnU-Net's keys (foreground_mean, mean, metric_per_case; labels by value) and ours; nan is None."""
        return {
            "foreground_mean": {metric: _plain(self.foreground_mean(metric)) for metric in METRICS},
            "mean": self._by_value(self.mean),
            "sd": self._by_value(self.deviation),
            "metric_per_case": [self._case_json(case) for case in self.cases],
            "labels": dict(self.labels),
            "missing_predictions": list(self.missing_predictions),
            "extra_predictions": list(self.extra_predictions),
            "empty": {str(value): self.empty(name) for name, value in self.labels.items()},
            "metrics": dict(METRICS),
            "rules": dict(RULES),
        }

    def to_json(self) -> str:
        """`to_dict` as the text of a summary.json."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Write summary.json; it appears whole or not at all."""
        write_text(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The summary that `write` wrote.

        Raises: FormatError when the file is not one of ours.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            labels = {str(name): int(value) for name, value in content["labels"].items()}
            cases = tuple(_case_from_json(entry, labels) for entry in content["metric_per_case"])
            return cls(labels, cases, tuple(content["extra_predictions"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(
                f"cannot read {path} as a summary: {error!r}",
                hint="pass a summary.json written by attunet evaluate",
            ) from error

    def _by_value(self, statistic: Callable[[str, str], float]) -> dict[str, dict[str, float | None]]:
        return {
            str(value): {metric: _plain(statistic(name, metric)) for metric in METRICS}
            for name, value in self.labels.items()
        }

    def _case_json(self, case: CaseScores) -> dict[str, Any]:
        metrics = {
            str(self.labels[name]): {metric: _plain(value) for metric, value in scores.values().items()}
            for name, scores in case.scores.items()
        }
        return {
            "case": case.case,
            "reference_file": case.reference_file,
            "prediction_file": case.prediction_file,
            "missing": case.missing,
            "metrics": metrics,
        }


def summarize(cases: Sequence[CaseScores], labels: Mapping[str, int], extra: Sequence[str] = ()) -> Summary:
    """Gather the scores of cases, from files or from arrays.

    Args: the cases; label name to value (background left out); names of predictions without a reference.
    """
    return Summary(foreground(labels), tuple(cases), tuple(extra))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return fmean(found) if found else nan


def _plain(value: float) -> float | None:
    return None if isnan(value) else value


def _case_from_json(entry: dict[str, Any], labels: Mapping[str, int]) -> CaseScores:
    metrics = entry["metrics"]
    return CaseScores(
        case=entry["case"],
        scores={name: _label_from_json(metrics[str(value)]) for name, value in labels.items() if str(value) in metrics},
        reference_file=entry["reference_file"],
        prediction_file=entry["prediction_file"],
        missing=entry["missing"],
    )


def _label_from_json(values: dict[str, float | None]) -> LabelScores:
    def number(metric: str) -> float:
        value = values[metric]
        return nan if value is None else value

    return LabelScores(
        counts=Counts(**{kind.lower(): int(number(kind)) for kind in ("TP", "FP", "FN", "TN")}),
        surface_distance=number("MSD"),
        hd95=number("HD95"),
        volume_error_ml=number("VolumeErrorMl"),
        relative_volume_error=number("RelativeVolumeError"),
    )
