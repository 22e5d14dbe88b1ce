"""Choose the post-processing of masks label by label on held-out cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attunet.config import ComponentRules
from attunet.evaluation.bootstrap import interval
from attunet.selection.connected_components import LabelComponents

__all__ = ["Trial", "accepted_rules", "decide_rules", "describe_rules"]

Numbers = npt.NDArray[np.float64]

MIN_GAIN = 0.0005
LEVEL = 0.9
MIN_CASES = 5
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
    """

    label: str
    rules: ComponentRules
    before: float
    after: float
    low: float
    high: float
    cases: int
    accepted: bool

    @property
    def reason(self) -> str:
        """The measurements in one sentence."""
        return (
            f"{describe_rules(self.rules)}: mean Dice {self.before:.4f} to {self.after:.4f} over {self.cases} "
            f"cases (90% interval of the gain {self.low:+.4f} to {self.high:+.4f})"
        )


def decide_rules(cases: Sequence[Mapping[str, LabelComponents]], labels: Sequence[str]) -> tuple[Trial, ...]:
    """Try every rule on every label, accept the best that helps, and continue until no rule helps.

    A rule is accepted if it raises the label's mean Dice by more than 0.0005, and the 90% bootstrap interval of the
    gain lies above 0 or no case gets worse. A case with the label in neither mask counts as Dice 1, so removing a false
    positive is a gain. With fewer than five cases, no rule is tried.

    Args:
        cases: for each case, the components of its annotated labels.
        labels: the labels in order.
    Returns: for each label, the accepted trials in order, then the best one that was not accepted.
    """
    by_label = {name: [case[name] for case in cases if name in case] for name in labels}
    return tuple(trial for name, components in by_label.items() for trial in _label_trials(name, components))


def accepted_rules(trials: Sequence[Trial]) -> dict[str, ComponentRules]:
    """The accepted post-processing by label, without labels that need none."""
    return {trial.label: trial.rules for trial in trials if trial.accepted}


def describe_rules(rules: ComponentRules) -> str:
    """A post-processing in words, such as "fill holes, remove below 0.12 ml, keep the largest"."""
    words = ["fill holes"] * rules.fill_holes
    words += [f"remove below {rules.minimum_ml:.3g} ml"] * (rules.minimum_ml > 0)
    words += ["keep the largest"] * rules.largest_component
    return ", ".join(words) or "nothing"


def _label_trials(name: str, cases: Sequence[LabelComponents]) -> list[Trial]:
    if len(cases) < MIN_CASES:
        return []
    tried: list[Trial] = []
    current, minima = ComponentRules(), _minima(cases)
    while changes := _changes(current, minima):
        before = _dice(cases, current)
        trials = [_trial(name, rules, before, _dice(cases, rules)) for rules in changes]
        best = max(trials, key=lambda trial: (trial.accepted, trial.after))
        tried.append(best)
        if not best.accepted:
            break
        current = best.rules
    return tried


def _trial(name: str, rules: ComponentRules, before: Numbers, after: Numbers) -> Trial:
    gain = after - before
    low, high = interval(gain, level=LEVEL)
    accepted = bool(gain.mean() > MIN_GAIN and (low > 0 or gain.min() >= 0))
    return Trial(name, rules, float(before.mean()), float(after.mean()), low, high, len(gain), accepted)


def _dice(cases: Sequence[LabelComponents], rules: ComponentRules) -> Numbers:
    return np.array([case.dice(rules) for case in cases])


def _changes(current: ComponentRules, minima: Sequence[float]) -> list[ComponentRules]:
    """The post-processings with one additional rule."""
    more: list[dict[str, object]] = [{"minimum_ml": size} for size in minima if not current.minimum_ml]
    more += [{name: True} for name in ("fill_holes", "largest_component") if not getattr(current, name)]
    return [current.model_copy(update=change) for change in more]


def _minima(cases: Sequence[LabelComponents]) -> list[float]:
    """Sizes in ml that just remove half, three quarters, nine tenths or all of the false positive components."""
    false = np.concatenate([case.plain.ml[case.plain.hits == 0] for case in cases])
    sizes = np.quantile(false, _QUANTILES, method="higher") if len(false) else []
    return sorted({float(f"{size * 1.001:.4g}") for size in sizes})  # above the component's size, even when rounded
