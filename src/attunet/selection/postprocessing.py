"""Choose the post-processing of masks label by label on held-out cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from attunet.config import ComponentRules
from attunet.evaluation.bootstrap import interval
from attunet.selection.connected_components import LabelComponents

__all__ = [
    "MIN_CASES",
    "References",
    "Trial",
    "accepted_rules",
    "decide_rules",
    "describe_rules",
    "rules_reasons",
]

Numbers = npt.NDArray[np.float64]

MIN_GAIN = 0.0005
LEVEL = 0.9
MIN_CASES = 5
FEW_CASES = 2
"""The least number of cases of a single fold, where the reference masks must agree, too."""
_HARM = 0.01
_ALTERED = 0.02
_QUANTILES = (0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class Trial:
    """A post-processing of one label, compared with the one before it.

    Args:
        label: the label.
        rules: the complete post-processing, with one new rule.
        before: mean Dice over the cases without the new rule.
        after: mean Dice with it.
        low: lower end of the 90% bootstrap interval of the gain, case by case.
        high: its upper end.
        cases: number of cases.
        accepted: whether it was accepted.
        altered: in how many reference masks the rules would change the label, and of how many; None if it was not
            asked.
    """

    label: str
    rules: ComponentRules
    before: float
    after: float
    low: float
    high: float
    cases: int
    accepted: bool
    altered: tuple[int, int] | None = None

    @property
    def reason(self) -> str:
        """The measurements in one sentence."""
        references = "" if self.altered is None else "; it would alter {} of {} reference masks".format(*self.altered)
        return (
            f"{describe_rules(self.rules)}: mean Dice {self.before:.4f} to {self.after:.4f} over {self.cases} "
            f"cases (90% interval of the gain {self.low:+.4f} to {self.high:+.4f}){references}"
        )


class References(Protocol):
    """The reference masks of the labelled cases of a single fold."""

    def altered(self, label: str, rules: ComponentRules) -> tuple[int, int]:
        """In how many of them the rules would change the label, and how many there are."""


def decide_rules(
    cases: Sequence[Mapping[str, LabelComponents]], labels: Sequence[str], references: References | None = None
) -> tuple[Trial, ...]:
    """Try every rule on every label, accept the best that helps, and continue until no rule helps.

    A rule is accepted if it raises the label's mean Dice by more than 0.0005, and the 90% bootstrap interval of the
    gain lies above 0 or no case gets worse. A case with the label in neither mask counts as Dice 1, so removing a false
    positive is a gain. With fewer than five cases, no rule is tried.

    The few cases of a single fold need more caution. There, a rule must also help in at least two cases, harm none
    (with five cases or more: none by more than 0.01), and leave the reference masks as they are, at least five of them:
    what it would remove from patients it would remove from those. This makes up for fewer than five cases.

    Args:
        cases: for each case, the components of its annotated labels.
        labels: the labels in order.
        references: the reference masks of a single fold; None for the cases of a cross-validation.
    Returns: for each label, the accepted trials in order, then the best one that was not accepted.
    """
    by_label = {name: [case[name] for case in cases if name in case] for name in labels}
    return tuple(
        trial for name, components in by_label.items() for trial in _label_trials(name, components, references)
    )


def accepted_rules(trials: Sequence[Trial]) -> dict[str, ComponentRules]:
    """The accepted post-processing by label, without labels that need none."""
    return {trial.label: trial.rules for trial in trials if trial.accepted}


def describe_rules(rules: ComponentRules) -> str:
    """A post-processing in words, such as "fill holes, remove below 0.12 ml, keep the largest"."""
    words = ["fill holes"] * rules.fill_holes
    words += [f"remove below {rules.minimum_ml:.3g} ml"] * (rules.minimum_ml > 0)
    words += ["keep the largest"] * rules.largest_component
    return ", ".join(words) or "nothing"


def rules_reasons(labels: Sequence[str], trials: Sequence[Trial], *, few: bool) -> dict[str, str]:
    """Why each label has its post-processing.

    Args:
        labels: the labels.
        trials: the trials of all labels.
        few: whether they were decided on the cases of a single fold.
    Returns: for each label, "postprocessing LABEL" and its trials in words.
    """
    least = FEW_CASES if few else MIN_CASES
    reasons = {}
    for name in labels:
        mine = [trial for trial in trials if trial.label == name]
        accepted = [trial.reason for trial in mine if trial.accepted] or ["nothing"]
        rejected = [f"not accepted: {trial.reason}" for trial in mine if not trial.accepted]
        none = f"none: fewer than {least} cases to decide on"
        reasons[f"postprocessing {name}"] = "; ".join(accepted + rejected) if mine else none
    return reasons


def _label_trials(name: str, cases: Sequence[LabelComponents], references: References | None) -> list[Trial]:
    if len(cases) < (MIN_CASES if references is None else FEW_CASES):
        return []
    tried: list[Trial] = []
    current = ComponentRules()
    while changes := _changes(current, cases):
        before = _dice(cases, current)
        trials = [_trial(name, rules, before, _dice(cases, rules), references) for rules in changes]
        best = max(trials, key=lambda trial: (trial.accepted, trial.after))
        tried.append(best)
        if not best.accepted:
            break
        current = best.rules
    return tried


def _trial(name: str, rules: ComponentRules, before: Numbers, after: Numbers, references: References | None) -> Trial:
    gain = after - before
    low, high = interval(gain, level=LEVEL)
    accepted = bool(gain.mean() > MIN_GAIN and (low > 0 or gain.min() >= 0))
    altered = None
    if references is not None and accepted:
        harmless = gain.min() >= (-_HARM if len(gain) >= MIN_CASES else 0)
        accepted = bool(harmless and np.count_nonzero(gain > 0) >= FEW_CASES)
        if accepted:  # only then the references are read
            changed, known = altered = references.altered(name, rules)
            accepted = known >= MIN_CASES and changed <= _ALTERED * known
    return Trial(name, rules, float(before.mean()), float(after.mean()), low, high, len(gain), accepted, altered)


def _dice(cases: Sequence[LabelComponents], rules: ComponentRules) -> Numbers:
    return np.array([case.dice(rules) for case in cases])


def _minima(cases: Sequence[LabelComponents]) -> list[float]:
    """Sizes in ml that just remove half, three quarters, nine tenths or all of the false positive components."""
    false = np.concatenate([case.plain.ml[case.plain.hits == 0] for case in cases])
    sizes = np.quantile(false, _QUANTILES, method="higher") if len(false) else []
    return sorted({float(f"{size * 1.001:.4g}") for size in sizes})  # above the component's size, even when rounded


def _always(_cases: Sequence[LabelComponents]) -> list[float]:
    return [True]


_STEPS: Mapping[str, Callable[[Sequence[LabelComponents]], list[float]]] = MappingProxyType(
    {"minimum_ml": _minima, "fill_holes": _always, "largest_component": _always}
)
"""The steps that are tried: a field of `ComponentRules`, and its candidate values for the cases of a label."""


def _changes(current: ComponentRules, cases: Sequence[LabelComponents]) -> list[ComponentRules]:
    """The post-processings with one additional step."""
    return [
        current.model_copy(update={step: value})
        for step, candidates in _STEPS.items()
        if not getattr(current, step)
        for value in candidates(cases)
    ]
