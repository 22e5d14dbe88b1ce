"""Which cleaning of the masks helps: decided label by label on cases that the model had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attunet.config import ComponentRules
from attunet.evaluation.bootstrap import interval
from attunet.selection.connected_components import LabelComponents

__all__ = ["Trial", "decide_cleaning", "describe_cleaning", "kept_cleaning"]

Numbers = npt.NDArray[np.float64]

LEAST_GAIN = 0.0005
LEVEL = 0.9
FEWEST_CASES = 5
_QUANTILES = (0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class Trial:
    """A cleaning of one label, against the one before it.

    Args: the label and its whole cleaning; mean Dice over the cases without and with what is new in it; the 90%
        bootstrap interval of the gain, case by case; cases; whether it was kept.
    """

    label: str
    cleaning: ComponentRules
    before: float
    after: float
    low: float
    high: float
    cases: int
    kept: bool

    @property
    def reason(self) -> str:
        """The figures as a sentence."""
        return (
            f"{describe_cleaning(self.cleaning)}: mean Dice {self.before:.4f} to {self.after:.4f} over {self.cases} "
            f"cases (90% interval of the gain {self.low:+.4f} to {self.high:+.4f})"
        )


def decide_cleaning(cases: Sequence[Mapping[str, LabelComponents]], labels: Sequence[str]) -> tuple[Trial, ...]:
    """Try every cleaning of every label, keep the best that helps, and go on from there until none does.

    A cleaning is kept where it raises the label's mean Dice by more than 0.0005, and the 90% bootstrap interval of
    the gain lies above 0 or no case gets worse. A case in which the label is in neither mask counts as Dice 1, so
    that a false alarm that goes away is a gain. Nothing is tried on fewer than five cases.
    Args: the pieces of each case by label, without the labels that were not drawn in it; the labels in order.
    Returns: of each label, the cleanings that were kept, each with those before it, then the best one refused.
    """
    found = {name: [case[name] for case in cases if name in case] for name in labels}
    return tuple(trial for name, pieces in found.items() for trial in _label_trials(name, pieces))


def kept_cleaning(trials: Sequence[Trial]) -> dict[str, ComponentRules]:
    """Label to the cleaning that was kept in the end; without the labels that stay as they are."""
    return {trial.label: trial.cleaning for trial in trials if trial.kept}


def describe_cleaning(how: ComponentRules) -> str:
    """A cleaning in words, such as "fill holes, remove below 0.12 ml, keep the largest"."""
    words = ["fill holes"] * how.fill_holes
    words += [f"remove below {how.minimum_ml:.3g} ml"] * (how.minimum_ml > 0)
    words += ["keep the largest"] * how.largest_component
    return ", ".join(words) or "nothing"


def _label_trials(name: str, cases: Sequence[LabelComponents]) -> list[Trial]:
    if len(cases) < FEWEST_CASES:
        return []
    tried: list[Trial] = []
    current, minima = ComponentRules(), _minima(cases)
    while changes := _changes(current, minima):
        before = _dice(cases, current)
        trials = [_trial(name, how, before, _dice(cases, how)) for how in changes]
        best = max(trials, key=lambda trial: (trial.kept, trial.after))
        tried.append(best)
        if not best.kept:
            break
        current = best.cleaning
    return tried


def _trial(name: str, how: ComponentRules, before: Numbers, after: Numbers) -> Trial:
    gain = after - before
    low, high = interval(gain, level=LEVEL)
    kept = bool(gain.mean() > LEAST_GAIN and (low > 0 or gain.min() >= 0))
    return Trial(name, how, float(before.mean()), float(after.mean()), low, high, len(gain), kept)


def _dice(cases: Sequence[LabelComponents], how: ComponentRules) -> Numbers:
    return np.array([case.dice(how) for case in cases])


def _changes(current: ComponentRules, minima: Sequence[float]) -> list[ComponentRules]:
    """The cleanings that do one thing more."""
    more: list[dict[str, object]] = [{"minimum_ml": size} for size in minima if not current.minimum_ml]
    more += [{name: True} for name in ("fill_holes", "largest_component") if not getattr(current, name)]
    return [current.model_copy(update=change) for change in more]


def _minima(cases: Sequence[LabelComponents]) -> list[float]:
    """Sizes in ml that just remove a half, three quarters, nine tenths or all of the components that hit nothing."""
    false = np.concatenate([case.plain.ml[case.plain.hits == 0] for case in cases])
    sizes = np.quantile(false, _QUANTILES, method="higher") if len(false) else []
    return sorted({float(f"{size * 1.001:.4g}") for size in sizes})  # a little more, so that rounding keeps it above
