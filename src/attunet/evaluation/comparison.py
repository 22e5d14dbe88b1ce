"""Several models on the same cases: scores, differences between the first and the others, and conclusions."""

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
"""Name of the row that compares the mean over a case's labels, if there are several."""


@dataclass(frozen=True)
class ComparedModel:
    """One model and its results on held-out cases.

    Args:
        name: name of the model.
        description: what is different about it.
        gate: the kind of its gates; None when it has none.
        summary: its scores on the cases compared.
        seconds: case to the time of its prediction, without reading and writing.
        engine: name of the engine that predicted.
        parameters: number of parameters of the network.
        flops: floating-point operations for one window; a multiply-add counts as two.
        patch: shape of that window.
        budget: training budget in words; empty when unknown.
        steps: fold to its number of optimizer steps, if its log exists.
        minutes: fold to its training time in minutes, if its log exists.
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
        """Its labels, and their mean if there are several."""
        labels = tuple(self.summary.labels)
        return (*labels, ALL_LABELS) if len(labels) > 1 else labels


@dataclass(frozen=True)
class Difference:
    """The first model minus another one.

    Args:
        other: name of the other model.
        label: the label, or `ALL_LABELS`.
        metric: a key of `METRICS`.
        test: the paired test over the cases.
    """

    other: str
    label: str
    metric: str
    test: PairedTest


@dataclass(frozen=True)
class ModelComparison:
    """Models evaluated on the same held-out cases; the first is compared with each of the others.

    Args:
        dataset: name of the data set.
        folds: the folds whose held-out cases were used.
        models: at least two.
        notes: differences in how the models were trained.
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
        """Number of cases that all models were evaluated on."""
        return len(self.baseline.summary.cases)

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """The differences by metric, other model and label, in this order."""
        return tuple(entry for spec in COMPARED for entry in self._family(spec.name))

    def difference(self, other: str, label: str, metric: str = "Dice") -> PairedTest:
        """The test of one difference.

        Args:
            other: name of the other model.
            label: a label, or `ALL_LABELS`.
            metric: one of `COMPARED`.
        Returns: the paired test over the cases.
        Raises: KeyError when there is no such model, label or metric.
        """
        return {(d.other, d.label, d.metric): d.test for d in self.differences}[other, label, metric]

    @property
    def conclusion(self) -> str:
        """One sentence: the gate helped, did harm, or these data cannot tell.

        It is about the first model and the first of the others that differs in having gates; if all models have gates,
        or none has, it is about the first two. If the comparison with another such model, for example one with as many
        weights, has a different result, the sentence says so.
        """
        return self._on_gate(self._main_rival) if self._rivals else self._on_pair(self._main_rival)

    @property
    def further_conclusions(self) -> tuple[str, ...]:
        """A sentence for each model not covered by `conclusion`: which is better, or that these data cannot tell."""
        return tuple(self._on_pair(other) for other in self.models[1:] if other is not self._main_rival)

    @property
    def _main_rival(self) -> ComparedModel:
        return (self._rivals or self.models[1:])[0]

    @property
    def _rivals(self) -> tuple[ComparedModel, ...]:
        """The other models that have gates if the first has none, or no gates if it has some."""
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
        but = "".join(self._exceptions(test, rival) for rival in self._rivals[1:])
        return f"The gate {did} here ({gated.name} against {plain.name}): {self._figures(other)}{but}."

    def _exceptions(self, main: PairedTest, rival: ComparedModel) -> str:
        """A clause about rivals with a different result; empty when there is none."""
        test = self._main_test(rival)
        if not test.decided:
            return f"; compared with {rival.name} instead, these data cannot tell"
        return "" if (test.mean > 0) == (main.mean > 0) else f"; compared with {rival.name} instead, the opposite holds"

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
            return "no case has a label for which both were scored"
        between = "unknown" if isnan(test.low) else f"{test.low:+.4f} to {test.high:+.4f}"
        return (
            f"{self.baseline.name} minus {other.name} is {test.mean:+.4f} {'mean ' if several else ''}Dice "
            f"(95% CI {between}, n = {test.cases} case{'s' * (test.cases != 1)}, Holm p = {test.holm:.2g})"
        )

    def _too_few(self, test: PairedTest) -> str:
        """A sentence when the cases are too few for any outcome to be significant."""
        family = sum(difference.metric == "Dice" for difference in self.differences)
        if test.cases and test.smallest_p * family >= ALPHA:
            corrected = f", corrected for {family} comparisons," if family > 1 else ""
            cases = f"{test.cases} case{'s' * (test.cases != 1)}{corrected}"
            return f" With {cases} no difference could have been significant."
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
