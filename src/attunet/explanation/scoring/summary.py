"""The scores of attention over cases: means, intervals and differences from the nulls, by gate, label and metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan
from typing import Any

from attunet.evaluation.summary_file import plain
from attunet.explanation.scoring.conclusions import (
    NULLS,
    OTHER_CASES,
    SHUFFLED,
    TRAINED,
    Estimate,
    NullComparison,
    conclusion,
    describe_conclusion,
    estimate,
)
from attunet.explanation.scoring.scores import ATTENTION_METRICS, CHANCE, MAP_METRICS

__all__ = ["OTHER_CASES", "RULES", "SHUFFLED", "SOURCES", "TRAINED", "AttentionScores", "AttentionSummary"]

SOURCES = (TRAINED, *NULLS)

RULES: Mapping[str, str] = {
    "absent": "A label that is absent from a case, or fills it, has no scores there and does not count in the means.",
    TRAINED: "The maps of the model.",
    SHUFFLED: "The maps of the same network with permuted weights in every layer: what the architecture looks at.",
    OTHER_CASES: "The maps of up to three other cases, stretched over this one: what the usual position explains.",
    "interval": "95% percentile bootstrap of the mean: cases resampled with replacement, 2000 times, seed 0.",
    "difference": "Trained minus null, case by case. No correction for the number of gates, labels and metrics.",
}


@dataclass(frozen=True)
class AttentionScores:
    """The scores of one map in one case.

    Args:
        source: origin of the map, one of `SOURCES`.
        gate: name of the map, as in `named_maps`.
        label: name of the organ; "" for the map alone.
        case: name of the case.
        values: the scores by the keys of `ATTENTION_METRICS`, or of `MAP_METRICS` for the map alone.
    """

    source: str
    gate: str
    label: str
    case: str
    values: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The fields by name; nan becomes None."""
        values = {metric: plain(value) for metric, value in self.values.items()}
        return {"source": self.source, "gate": self.gate, "label": self.label, "case": self.case, "values": values}


@dataclass(frozen=True)
class AttentionSummary:
    """The scores of many cases (see `case_scores` and `other_case_scores`)."""

    scores: tuple[AttentionScores, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The origins of the maps, the trained model first."""
        return tuple(source for source in SOURCES if any(row.source == source for row in self.scores))

    @property
    def gates(self) -> tuple[str, ...]:
        """The maps, in the order of the trained model's rows."""
        return _unique(row.gate for row in self.scores)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels; the map alone is not among them."""
        return _unique(row.label for row in self.scores if row.label)

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases."""
        return _unique(row.case for row in self.scores)

    def values(self, source: str, gate: str, label: str, metric: str) -> dict[str, float]:
        """See `estimate`: the values by case, of the cases that count."""
        rows = self._by_case.get((source, gate, label), {})
        known = {case: values.get(metric, nan) for case, values in rows.items()}
        return {case: value for case, value in known.items() if not isnan(value)}

    def estimate(self, source: str, gate: str, label: str, metric: str) -> Estimate:
        """Mean of a metric over the cases that count, with its bootstrap interval.

        Args:
            source: origin of the maps, one of `SOURCES`.
            gate: name of the map.
            label: name of the organ; "" for a metric of the map alone.
            metric: a key of `ATTENTION_METRICS`, or of `MAP_METRICS` for the map alone.
        Returns: the estimate; its numbers are nan when no case counts.
        """
        return _estimate(self.values(source, gate, label, metric))

    def mean(self, source: str, gate: str, label: str, metric: str) -> float:
        """See `estimate`: the mean alone."""
        return self.estimate(source, gate, label, metric).mean

    def interval(self, source: str, gate: str, label: str, metric: str) -> tuple[float, float]:
        """See `estimate`: the interval alone; nan for fewer than two cases that count."""
        result = self.estimate(source, gate, label, metric)
        return result.low, result.high

    def difference(self, null: str, gate: str, label: str, metric: str) -> Estimate:
        """See `estimate`: of trained minus `null`, a key of `NULLS`, in the cases in which both count."""
        ours, theirs = (self.values(source, gate, label, metric) for source in (TRAINED, null))
        return _estimate({case: ours[case] - theirs[case] for case in ours if case in theirs})

    def comparison(self, gate: str, label: str, metric: str = "lift") -> NullComparison:
        """See `estimate`: of the trained gate, beside the nulls that were measured."""
        nulls = [source for source in self.sources if source != TRAINED]
        return NullComparison(
            gate,
            label,
            metric,
            self.estimate(TRAINED, gate, label, metric),
            {source: self.estimate(source, gate, label, metric) for source in nulls},
            {source: self.difference(source, gate, label, metric) for source in nulls},
        )

    def table(self, label: str, metric: str = "lift") -> tuple[NullComparison, ...]:
        """A row for every gate; label "" and a key of `MAP_METRICS` for the maps alone."""
        return tuple(self.comparison(gate, label, metric) for gate in self.gates)

    def finding(self, gate: str, label: str) -> str:
        """The conclusion from the lift of a gate about where it looks, in words."""
        return describe_conclusion(self.comparison(gate, label))

    def to_json(self) -> dict[str, Any]:
        """Every number: for each gate the map alone and each label with its nulls, and the values case by case."""
        return {
            "metrics": dict(ATTENTION_METRICS),
            "map_metrics": dict(MAP_METRICS),
            "chance": dict(CHANCE),
            "rules": dict(RULES),
            "gates": {gate: self._gate_to_json(gate) for gate in self.gates},
            "cases": [row.to_json() for row in self.scores],
        }

    def _gate_to_json(self, gate: str) -> dict[str, Any]:
        labels = {
            label: {
                "conclusion": conclusion(self.comparison(gate, label)),
                "finding": self.finding(gate, label),
                "metrics": {metric: self.comparison(gate, label, metric).to_json() for metric in ATTENTION_METRICS},
            }
            for label in self.labels
        }
        return {
            "map": {metric: self.comparison(gate, "", metric).to_json() for metric in MAP_METRICS},
            "labels": labels,
        }

    @cached_property
    def _by_case(self) -> dict[tuple[str, str, str], dict[str, Mapping[str, float]]]:
        index: dict[tuple[str, str, str], dict[str, Mapping[str, float]]] = {}
        for row in self.scores:
            index.setdefault((row.source, row.gate, row.label), {})[row.case] = row.values
        return index


def _estimate(values: Mapping[str, float]) -> Estimate:
    return estimate({(case, ""): value for case, value in values.items()})


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
