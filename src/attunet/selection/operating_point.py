"""The operating point: how much more, or less, probable each label is made before the mask is drawn.

Training draws half of its patches around labels, so that a label is more frequent there than in a whole image, and a
briefly trained network over-segments. A bias of the label's logit corrects this; it is chosen for the best mean Dice
of held-out cases, and judged on folds that were not used to choose it: first by an estimate from samples, then on whole
masks.
Source: Menon et al. 2021, "Long-tail learning via logit adjustment", for the correction after training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from attunet.bundle import HeldOutCase
from attunet.config import Plan
from attunet.evaluation.paired import PairedGain
from attunet.selection.samples import Sample

__all__ = ["OperatingPoint", "choose_operating_point", "sample_dice"]

Doubles = npt.NDArray[np.float64]
Samples = Mapping[str, Sample]

_BIASES = np.arange(-4.0, 2.01, 0.25)
_TIE = 0.002
"""Of biases whose mean Dice differs by less, the one nearest to 0 is chosen."""
_MIN_GAIN = 0.005
_MIN_CASES = 5


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The bias of each label's logit, and what it adds on folds that were not used to choose it.

    Args:
        fitted: label to the bias chosen on all cases; without labels whose bias is 0.
        by_fold: fold to the biases chosen on the cases of the other folds.
        gain: the gain of the cases, each at the biases of `by_fold`; estimated from samples of their voxels until it is
            measured on whole masks. None if nothing was chosen.
    """

    fitted: Mapping[str, float] = field(default_factory=dict)
    by_fold: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    gain: PairedGain | None = None

    @property
    def accepted(self) -> bool:
        """Whether it adds at least 0.005, and the interval of the gain lies above 0."""
        return bool(self.fitted) and self.gain is not None and self.gain.mean >= _MIN_GAIN and self.gain.low > 0

    @property
    def reason(self) -> str:
        """The decision and its measurements, in one sentence."""
        if self.gain is None:
            return f"none: fewer than {_MIN_CASES} fully annotated cases in several folds"
        if not self.fitted:
            return f"none: no bias raises the mean Dice of {self.gain.cases} held-out cases"
        biases = ", ".join(f"{name} {bias:+.2f}" for name, bias in self.fitted.items())
        told = f"{self.gain.text}, each fold at the biases chosen on the others"
        return f"{biases}: {told}" if self.accepted else f"none, as {biases} does not help enough: {told}"

    def measured(self, before: Sequence[float], after: Sequence[float]) -> Self:
        """The same with the gain of whole masks in place of the estimate, with which it may not be accepted any more.

        Args:
            before: Dice of the fully annotated cases without a bias.
            after: that of the same cases, each at the biases of `by_fold`.
        Returns: the operating point.
        """
        return replace(self, gain=PairedGain.of(before, after))


def choose_operating_point(cases: Sequence[HeldOutCase], samples: Samples, plan: Plan) -> OperatingPoint:
    """Choose the bias of each label on held-out cases, and measure its gain on folds that were left out.

    Args:
        cases: the held-out cases and their folds; nothing is chosen on partially annotated ones.
        samples: case to its sampled voxels.
        plan: the plan of the run.
    Returns: the biases; none with fewer than five cases or a single fold.
    """
    complete = [entry for entry in cases if entry.case.annotated is None]
    if len(complete) < _MIN_CASES or len({entry.fold for entry in complete}) < 2:
        return OperatingPoint()
    folds = sorted({entry.fold for entry in cases})  # also those of which all cases are partially annotated
    tables = {entry.case.id: _dice_table(samples[entry.case.id], plan) for entry in complete}
    chosen = {fold: _best([tables[entry.case.id] for entry in complete if entry.fold != fold], plan) for fold in folds}
    before, after = (
        [float(sample_dice(samples[entry.case.id], plan, biases.get(entry.fold, {})).mean()) for entry in complete]
        for biases in ({}, chosen)
    )
    return OperatingPoint(fitted=_best(list(tables.values()), plan), by_fold=chosen, gain=PairedGain.of(before, after))


def sample_dice(sample: Sample, plan: Plan, biases: Mapping[str, float]) -> Doubles:
    """The Dice of each foreground label in a case, estimated from its sampled voxels.

    Args:
        sample: the voxels, with the number of voxels that each represents.
        plan: the plan.
        biases: label to the bias that is added to its logit.
    Returns: (labels,); 1 where neither mask has the label.
    """
    logits = sample.logits + np.array([biases.get(name, 0.0) for name in plan.outputs], np.float32)[:, None]
    outputs = np.arange(len(logits))[:, None]
    predicted = logits > 0 if plan.regions else logits.argmax(axis=0) == outputs
    foreground = slice(len(plan.outputs) - len(plan.foreground), None)
    pairs = zip(predicted[foreground], sample.truth[foreground], strict=True)
    return np.array([_dice(mask, truth, sample) for mask, truth in pairs])


def _dice(mask: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], sample: Sample) -> float:
    weights = sample.weights.astype(np.float64)
    total = weights[mask].sum() + weights[truth].sum()
    return float(2 * weights[mask & truth].sum() / total) if total else 1.0


def _dice_table(sample: Sample, plan: Plan) -> Doubles:
    """(labels, biases) the Dice of each label when only its own logit has the bias."""
    first = len(plan.outputs) - len(plan.foreground)
    return np.stack([_label_row(sample, output, bool(plan.regions)) for output in range(first, len(plan.outputs))])


def _label_row(sample: Sample, output: int, regions: bool) -> Doubles:
    """Voxels are sorted by the bias from which on they have the label, so that all biases are counted at once."""
    rival = np.zeros_like(sample.logits[0]) if regions else np.delete(sample.logits, output, axis=0).max(axis=0)
    needed = (rival - sample.logits[output]).astype(np.float64)
    order = np.argsort(needed)
    weights, truth = sample.weights[order].astype(np.float64), sample.truth[output][order]
    count = np.searchsorted(needed[order], _BIASES)
    predicted = np.concatenate([[0.0], np.cumsum(weights)])[count]
    hits = np.concatenate([[0.0], np.cumsum(weights * truth)])[count]
    total = predicted + float(weights[truth].sum())
    return np.where(total > 0, 2 * hits / np.maximum(total, 1e-9), 1.0)


def _best(tables: Sequence[Doubles], plan: Plan) -> dict[str, float]:
    """Label to the bias with the best mean Dice over the cases; labels for which 0 is best are left out."""
    biases = {}
    for name, means in zip(plan.foreground, np.mean(tables, axis=0), strict=True):
        good = np.flatnonzero(means >= means.max() - _TIE)
        bias = float(_BIASES[good[np.argmin(np.abs(_BIASES[good]))]])
        if bias:
            biases[name] = bias
    return biases
