"""`Summary`: the scores of many cases and their means; nnU-Net's summary.json, extended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from statistics import stdev
from typing import Any, Self

from attunet.data.labels import Values
from attunet.display import NotebookView
from attunet.documents import read_document, reading
from attunet.evaluation.bootstrap import interval, means_interval
from attunet.evaluation.metrics import METRICS
from attunet.evaluation.scores import CaseScores, foreground, label_values, nan_mean
from attunet.evaluation.summary_file import RULES, case_from_json, case_to_json, key_of, plain, values_from_json
from attunet.files import write_text

__all__ = ["RULES", "Summary", "summarize"]


@dataclass(frozen=True)
class Summary(NotebookView):
    """The scores of many cases.

    Args:
        labels: name to value of the labels scored, or to the values of a region; background left out.
        cases: one entry per reference.
        extra_predictions: predictions without a reference.
        failed: cases that could not be scored, and why; they count nowhere.
    """

    labels: Mapping[str, Values]
    cases: tuple[CaseScores, ...]
    extra_predictions: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing_predictions(self) -> tuple[str, ...]:
        """Names of the cases that have no prediction and were scored as empty."""
        return tuple(case.case for case in self.cases if case.missing)

    def values(self, label: str, metric: str = "Dice") -> dict[str, float]:
        """Case name to value of a metric (a key of `METRICS`), of the cases that count.

        Cases in which both masks are empty, or the label is not annotated, do not count.
        """
        values = {case.case: case.scores[label].values()[metric] for case in self.cases if label in case.scores}
        return {case: value for case, value in values.items() if not isnan(value)}

    def mean(self, label: str, metric: str = "Dice") -> float:
        """Mean over the cases that count; nan when there is none."""
        return nan_mean(self.values(label, metric).values())

    def deviation(self, label: str, metric: str = "Dice") -> float:
        """Sample standard deviation over the cases that count; nan for fewer than two."""
        values = list(self.values(label, metric).values())
        return stdev(values) if len(values) > 1 else nan

    def foreground_mean(self, metric: str = "Dice") -> float:
        """Mean of the labels' means; nan when no label occurs anywhere."""
        return nan_mean(self.mean(label, metric) for label in self.labels)

    def interval(self, label: str, metric: str = "Dice") -> tuple[float, float]:
        """95% bootstrap confidence interval of `mean`; nan for fewer than two cases that count."""
        return interval(list(self.values(label, metric).values()))

    def foreground_interval(self, metric: str = "Dice") -> tuple[float, float]:
        """95% bootstrap confidence interval of `foreground_mean`, resampling whole cases; nan for fewer than two."""
        columns = [self.values(label, metric) for label in self.labels]
        if not columns or not self.cases:
            return nan, nan
        return means_interval([[values.get(case.case, nan) for values in columns] for case in self.cases])

    def worst(self, label: str) -> tuple[str, float] | None:
        """Case with the lowest Dice and that Dice; None when no case counts."""
        values = self.values(label)
        return min(values.items(), key=lambda item: item[1]) if values else None

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
            "foreground_mean": {metric: plain(self.foreground_mean(metric)) for metric in METRICS},
            "mean": self._by_value(lambda name, metric: plain(self.mean(name, metric))),
            "sd": self._by_value(lambda name, metric: plain(self.deviation(name, metric))),
            "ci95": {
                "foreground_mean": {metric: _ends(self.foreground_interval(metric)) for metric in METRICS},
                "mean": self._by_value(lambda name, metric: _ends(self.interval(name, metric))),
            },
            "metric_per_case": [case_to_json(case, self.labels) for case in self.cases],
            "labels": dict(self.labels),
            "missing_predictions": list(self.missing_predictions),
            "extra_predictions": list(self.extra_predictions),
            "failed": dict(self.failed),
            "empty": {key_of(value): self.empty(name) for name, value in self.labels.items()},
            "metrics": {name: spec.description for name, spec in METRICS.items()},
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

        Raises: FormatError when the file is not a summary of attunet.
        """
        with reading(path, hint="pass a summary.json written by attunet evaluate"):
            content = read_document(path)
            labels = {str(name): values_from_json(value) for name, value in content["labels"].items()}
            cases = tuple(case_from_json(entry, labels) for entry in content["metric_per_case"])
            failed = {str(case): str(reason) for case, reason in content.get("failed", {}).items()}
            return cls(labels, cases, tuple(content["extra_predictions"]), failed)

    def _by_value(self, statistic: Callable[[str, str], object]) -> dict[str, dict[str, object]]:
        return {
            key_of(value): {metric: statistic(name, metric) for metric in METRICS}
            for name, value in self.labels.items()
        }


def summarize(cases: Sequence[CaseScores], labels: Mapping[str, Values], extra: Sequence[str] = ()) -> Summary:
    """Summarize the scores of cases, from files or from arrays.

    Args:
        cases: the scores of each.
        labels: label name to value, or region to the values it unites; the background is left out.
        extra: names of predictions without a reference.
    Returns: the summary.
    """
    return Summary(label_values(foreground(labels)), tuple(cases), tuple(extra))


def _ends(ends: tuple[float, float]) -> list[float | None]:
    return [plain(end) for end in ends]
