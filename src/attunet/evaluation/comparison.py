"""Several models on the same cases: their scores, the first one's differences to each other one, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan, nan
from statistics import fmean, median

from attunet.evaluation.metrics import COMPARED
from attunet.evaluation.paired import ALPHA, PairedTest, paired_test, with_holm
from attunet.evaluation.summary import Summary

__all__ = ["ALL_LABELS", "ComparedModel", "Difference", "ModelComparison"]

ALL_LABELS = "mean of labels"
"""Name of the row that compares the mean of a case's labels, where there are several."""


@dataclass(frozen=True)
class ComparedModel:
    """One model and how it did on cases that it had not seen.

    Args:
        name, description: what it is called, and what is different about it.
        gate: the kind of its gates; None when it has none.
        summary: its scores on the cases compared.
        seconds: case to the time its prediction took, reading and writing not counted; engine: what it ran on.
        parameters: of the network; flops: to predict one window (a multiply-add counts as two); patch: that window.
        budget: what its training was given, in words; empty when that is not known.
        steps, minutes: optimiser steps and wall clock of the training of each fold, where its log is there.
    """

    name: str
    description: str
    gate: str | None
    summary: Summary
    seconds: Mapping[str, float]
    engine: str
    parameters: int
    flops: int
    patch: tuple[int, ...]
    budget: str = ""
    steps: Mapping[int, int] = field(default_factory=dict)
    minutes: Mapping[int, float] = field(default_factory=dict)

    @property
    def median_seconds(self) -> float:
        """Median time of a prediction; nan without cases."""
        return median(self.seconds.values()) if self.seconds else nan

    @property
    def row_labels(self) -> tuple[str, ...]:
        """Its labels, and the mean of them where there are several."""
        labels = tuple(self.summary.labels)
        return (*labels, ALL_LABELS) if len(labels) > 1 else labels


@dataclass(frozen=True)
class Difference:
    """The first model minus another one, in one metric of one label."""

    other: str
    label: str
    metric: str
    test: PairedTest


@dataclass(frozen=True)
class ModelComparison:
    """Models judged on the same unseen cases; the first is the one that the others are compared with.

    Args: name of the data set; the folds whose unseen cases were judged; at least two models; what is to be said about
        how they were trained and judged.
    """

    dataset: str
    folds: tuple[int, ...]
    models: tuple[ComparedModel, ...]
    notes: tuple[str, ...] = ()

    @property
    def baseline(self) -> ComparedModel:
        """The first model."""
        return self.models[0]

    @property
    def cases(self) -> int:
        """Cases that all were judged on."""
        return len(self.baseline.summary.cases)

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Of every metric, other model and label, in this order."""
        return tuple(entry for spec in COMPARED for entry in self._family(spec.name))

    def difference(self, other: str, label: str, metric: str = "Dice") -> PairedTest:
        """The test of one difference. Raises: KeyError when there is no such model, label or metric."""
        return {(d.other, d.label, d.metric): d.test for d in self.differences}[other, label, metric]

    @property
    def conclusion(self) -> str:
        """One sentence: whether the gate helped on these data, or that they cannot tell.

        About the first model and the first that differs from it in having gates; of models that all have gates, or
        none, about the first two. A gate that helped against one model without gates and not against another, such as
        one with as many weights, is told in the same breath.
        """
        return self._on_gate(self._asked) if self._unlike else self._on_pair(self._asked)

    @property
    def further_conclusions(self) -> tuple[str, ...]:
        """One for each other model that the verdict is not about: which is better, or that these data cannot tell."""
        return tuple(self._on_pair(other) for other in self.models[1:] if other is not self._asked)

    @property
    def _asked(self) -> ComparedModel:
        return (self._unlike or self.models[1:])[0]

    @property
    def _unlike(self) -> tuple[ComparedModel, ...]:
        """The others that have gates where the first has none, or none where it has."""
        return tuple(other for other in self.models[1:] if (other.gate is None) != (self.baseline.gate is None))

    def _family(self, metric: str) -> Iterator[Difference]:
        keys = [(other, label) for other in self.models[1:] for label in self.baseline.row_labels]
        tests = with_holm([self._test(other, label, metric) for other, label in keys])
        for (other, label), test in zip(keys, tests, strict=True):
            yield Difference(other.name, label, metric, test)

    def _test(self, other: ComparedModel, label: str, metric: str) -> PairedTest:
        mine, theirs = self.baseline.summary, other.summary
        if label != ALL_LABELS:
            return paired_test(mine.values(label, metric), theirs.values(label, metric))
        return paired_test(*_means(mine, theirs, metric))

    def _on_gate(self, other: ComparedModel) -> str:
        test = self._main_test(other)
        gated, plain = (self.baseline, other) if self.baseline.gate else (other, self.baseline)
        if not test.decided:
            return f"These data cannot tell whether the gate helps: {self._figures(other)}.{self._too_few(test)}"
        helped = (test.mean > 0) == (gated is self.baseline)
        did = "helped" if helped else "did harm"
        but = "".join(self._unless(test, rival) for rival in self._unlike[1:])
        return f"The gate {did} here ({gated.name} against {plain.name}): {self._figures(other)}{but}."

    def _unless(self, found: PairedTest, rival: ComparedModel) -> str:
        """Where another pair does not say the same."""
        test = self._main_test(rival)
        if not test.decided:
            return f"; with {rival.name} in its place, these data cannot tell"
        return "" if (test.mean > 0) == (found.mean > 0) else f"; with {rival.name} in its place, the opposite holds"

    def _on_pair(self, other: ComparedModel) -> str:
        test = self._main_test(other)
        mine = self.baseline.name
        if not test.decided:
            return f"These data cannot tell {mine} from {other.name}: {self._figures(other)}.{self._too_few(test)}"
        return f"{mine} is {'better' if test.mean > 0 else 'worse'} than {other.name}: {self._figures(other)}."

    def _main_test(self, other: ComparedModel) -> PairedTest:
        return self.difference(other.name, self.baseline.row_labels[-1])

    def _figures(self, other: ComparedModel) -> str:
        test, several = self._main_test(other), len(self.baseline.summary.labels) > 1
        if not test.cases:
            return "no case holds a label that both were judged on"
        between = "unknown" if isnan(test.low) else f"{test.low:+.4f} to {test.high:+.4f}"
        return (
            f"{self.baseline.name} minus {other.name} is {test.mean:+.4f} {'mean ' if several else ''}Dice "
            f"(95% CI {between}, n = {test.cases} case{'s' * (test.cases != 1)}, Holm p = {test.holm:.2g})"
        )

    def _too_few(self, test: PairedTest) -> str:
        """Where no outcome at all could have been told apart from chance."""
        family = sum(difference.metric == "Dice" for difference in self.differences)
        if test.cases and test.smallest_p * family >= ALPHA:
            corrected = f", corrected for {family} comparisons," if family > 1 else ""
            return f" With {test.cases} case{'s' * (test.cases != 1)}{corrected} no difference could have been told."
        return ""


def _means(first: Summary, second: Summary, metric: str) -> tuple[dict[str, float], dict[str, float]]:
    """Each case's mean over the labels that count in both."""
    values = [(first.values(label, metric), second.values(label, metric)) for label in first.labels]
    means: tuple[dict[str, float], dict[str, float]] = {}, {}
    for case in (entry.case for entry in first.cases):
        shared = [pair for pair in values if case in pair[0] and case in pair[1]]
        for side, mean in enumerate(means):
            if shared:
                mean[case] = fmean(pair[side][case] for pair in shared)
    return means
