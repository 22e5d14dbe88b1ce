"""Which way to predict is worth its seconds: mirrored copies and folds, compared on cases that no fold used has seen.

The slower way is kept only if it raises the mean Dice by at least 0.002 and the 95% bootstrap interval of the gain,
paired by case, lies above 0. With fewer than five cases nothing is decided, and everything is averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Self

import numpy as np
import numpy.typing as npt

from attunet.config import MeasuredPrediction, Plan, PredictionChoice
from attunet.evaluation.paired import PairedGain
from attunet.evaluation.scores import nan_mean
from attunet.selection.held_out_cache import HeldOutResult

__all__ = [
    "PredictionScores",
    "case_dice",
    "choose_mirroring",
    "decide_folds",
    "decide_mirroring",
    "held_out_dice",
    "settle",
    "with_folds",
]

Doubles = npt.NDArray[np.float64]

MIN_GAIN = 0.002
MIN_CASES = 5


@dataclass(frozen=True, kw_only=True)
class PredictionScores:
    """What one way to predict gave; the cases of scored that are compared are the same, in the same order.

    Args:
        folds: number of folds that are averaged.
        copies: copies of each window, 1 without mirroring.
        dice: mean Dice of each case, see `case_dice`; nan where no label is annotated.
        seconds: time of each case; nan where it was not recorded.
    """

    folds: int
    copies: int
    dice: Sequence[float]
    seconds: Sequence[float]

    @classmethod
    def of(cls, folds: int, copies: int, measured: Iterable[tuple[float, float]]) -> Self:
        """The scores of one way to predict.

        Args:
            folds: number of folds that are averaged.
            copies: copies of each window.
            measured: the Dice and the seconds of each case.
        Returns: the scores.
        """
        pairs = tuple(measured)
        dice, seconds = (tuple(pair[index] for pair in pairs) for index in (0, 1))
        return cls(folds=folds, copies=copies, dice=dice, seconds=seconds)

    @property
    def cases(self) -> int:
        """Number of cases with a Dice."""
        return sum(not isnan(value) for value in self.dice)

    @property
    def median_seconds(self) -> float:
        """Median over the cases whose time was recorded; nan if none was."""
        known = [value for value in self.seconds if not isnan(value)]
        return float(np.median(known)) if known else nan


def case_dice(values: Iterable[float]) -> float:
    """Mean Dice of the labels annotated in a case; nan, for one in neither mask, counts as 1, so false alarms cost."""
    return nan_mean([1.0 if isnan(value) else value for value in values])


def held_out_dice(result: HeldOutResult) -> float:
    """See `case_dice`: of a held-out case."""
    return case_dice(label.counts.dice for label in result.scores.scores.values())


def _gain(before: PredictionScores, after: PredictionScores) -> PairedGain:
    return PairedGain.of(before.dice, after.dice)


def _worth(gain: PairedGain) -> bool:
    return gain.cases >= MIN_CASES and gain.mean >= MIN_GAIN and gain.low > 0


def decide_mirroring(plain: PredictionScores, mirrored: PredictionScores | None) -> tuple[PredictionChoice, str]:
    """Decide whether mirrored copies are averaged.

    Args:
        plain: each held-out case predicted by its own fold, without mirroring.
        mirrored: the same with mirroring; None if the plan mirrors no axis.
    Returns: the choice with both rows of the table, and the reason.
    """
    if mirrored is None:
        return PredictionChoice(measured=(_row(plain),)), "none: the plan mirrors no axis"
    gain = _gain(plain, mirrored)
    times = f"{_seconds(mirrored)} instead of {_seconds(plain)} a case"
    what = f"{mirrored.copies} mirrored copies add {gain.text}, in {times}"
    rows = _row(plain), _row(mirrored, gain)
    if gain.cases < MIN_CASES:
        return PredictionChoice(measured=rows), f"not decided, so on: fewer than {MIN_CASES} cases; {what}"
    decision = "on" if _worth(gain) else "off"
    rule = "" if _worth(gain) else f"; they are kept if they add {MIN_GAIN} and the interval lies above 0"
    return PredictionChoice(mirror=_worth(gain), measured=rows), f"{decision}: {what}{rule}"


def choose_mirroring(variants: Sequence[Sequence[tuple[float, float]]], plan: Plan) -> tuple[PredictionChoice, str]:
    """Decide on held-out cases, each predicted by its own fold, whether mirrored copies are averaged.

    Args:
        variants: the Dice (see `case_dice`) and the seconds of each case, with mirrored copies and, if the plan allows
            any, without.
        plan: the plan of the run.
    Returns: as `decide_mirroring`.
    """
    copies = (2 ** len(plan.mirror_axes), 1)
    *mirrored, plain = (PredictionScores.of(1, *column) for column in zip(copies, variants, strict=False))
    return decide_mirroring(plain, next(iter(mirrored), None))


def decide_folds(scored: Sequence[PredictionScores], folds: Sequence[int]) -> tuple[PredictionChoice, str]:
    """Decide how many folds are averaged: the fewest to which no larger number adds what is worth its seconds.

    Args:
        scored: of the first fold, the first two, and so on up to all, on labelled cases that no fold has seen.
        folds: the indices of the folds in this order.
    Returns: the choice with a row for each scores, and the reason.
    """
    chosen = first = scored[0]
    while more := next((one for one in scored if one.folds > chosen.folds and _worth(_gain(chosen, one))), None):
        chosen = more
    rows = tuple(_row(one, None if one is first else _gain(first, one), "unseen") for one in scored)
    if first.cases < MIN_CASES:
        reason = f"not decided, so all: fewer than {MIN_CASES} cases that no fold has seen"
        return PredictionChoice(measured=rows), reason
    told = f"{chosen.folds} of {len(folds)}: "
    if chosen is not first:
        told += f"more than one add {_gain(first, chosen).text}"
    if chosen is not scored[-1]:
        others = f"all {len(folds)} add {_gain(chosen, scored[-1]).text}"
        told += f"{'; ' if chosen is not first else ''}{others}, in {_seconds(scored[-1])} instead of "
        told += f"{_seconds(chosen)} a case"
    return PredictionChoice(folds=tuple(folds[: chosen.folds]), measured=rows), told


def with_folds(choice: PredictionChoice, earlier: PredictionChoice) -> PredictionChoice:
    """The choice with the folds that were decided earlier on unseen cases, if that was done with the same mirroring."""
    unseen = tuple(row for row in earlier.measured if row.measured_on == "unseen" and row.cases)
    if not unseen or earlier.mirror != choice.mirror:
        return choice
    return choice.model_copy(update={"folds": earlier.folds, "measured": choice.measured + unseen})


def settle(choice: PredictionChoice, folds: int) -> PredictionChoice:
    """Mark how predictions are made; if no row measures that, because each case was seen by all folds but one, add it.

    Args:
        choice: the decisions and the rows measured so far.
        folds: number of finished folds.
    Returns: the same with one row marked as used; an added one has no Dice, and estimated seconds.
    """
    averaged = folds if choice.folds is None else len(choice.folds)
    every = [row.copies for row in choice.measured]
    copies = 1 if choice.mirror is False else max(every)
    rows = [row for row in choice.measured if row.cases]
    if not rows:
        return choice
    if (averaged, copies) not in {(row.folds, row.copies) for row in rows}:
        one = next(row for row in rows if (row.folds, row.copies) == (1, copies))
        seconds = None if one.seconds is None else round(averaged * one.seconds, 3)
        added = MeasuredPrediction(folds=averaged, copies=copies, cases=0, measured_on="unseen", seconds=seconds)
        rows.append(added)
    used = max(index for index, row in enumerate(rows) if (row.folds, row.copies) == (averaged, copies))
    marked = (row.model_copy(update={"used": index == used}) for index, row in enumerate(rows))
    return choice.model_copy(update={"measured": tuple(marked)})


def _row(scores: PredictionScores, gain: PairedGain | None = None, on: str = "held-out") -> MeasuredPrediction:
    gained = {} if gain is None else {"gain": gain.mean, "low": gain.low, "high": gain.high}
    values = {"dice": nan_mean(scores.dice), "seconds": scores.median_seconds, **gained}
    known = {name: round(value, 5) for name, value in values.items() if not isnan(value)}
    return MeasuredPrediction.model_validate(
        {"folds": scores.folds, "copies": scores.copies, "cases": scores.cases, "measured_on": on, **known}
    )


def _seconds(scores: PredictionScores) -> str:
    seconds = scores.median_seconds
    return "an unknown time" if isnan(seconds) else f"{seconds:.3g} s"
