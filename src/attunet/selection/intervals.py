"""Prediction intervals from held-out cases: split conformal prediction, label by label, and for the predicted Dice.

The residuals of n exchangeable cases split the line into n + 1 parts, and the next residual lies in each of them with
equal probability. So the k-th smallest, k = ceil((n + 1) (1 - alpha)), bounds it with a probability of at least
1 - alpha, whatever the distribution and however wrong the model.

Sources: Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World; Lei et al. 2018, Distribution-Free
Predictive Inference for Regression (scaled residuals: section 5.2); Angelopoulos and Bates 2021, A Gentle Introduction
to Conformal Prediction. Residuals of several folds, and of lines that leave a case out: Barber et al. 2021, Predictive
Inference with the Jackknife+.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite, isnan

import numpy as np
import numpy.typing as npt

from attunet.config import IntervalCalibration, Postprocessing, QualityCalibration
from attunet.evaluation.scores import CaseScores
from attunet.evaluation.summary import Summary
from attunet.evaluation.volumes import volume_pairs
from attunet.inference.intervals import DICE_INTERVAL, VOLUME_INTERVAL, describe_interval
from attunet.report.calibration import DicePair
from attunet.selection.quality import left_out_predictions

__all__ = [
    "LEVEL",
    "MIN_CASES",
    "POWER",
    "HeldOutValues",
    "IntervalDecision",
    "calibrate_dice",
    "calibrate_interval",
    "calibrate_volumes",
    "with_intervals",
]

Doubles = npt.NDArray[np.float64]

LEVEL = 0.9
MIN_CASES = 20
POWER = 1.0
"""Residuals of volumes are relative to the prediction; measured in decision 19."""

_TOLERANCE = 1e-9  # of rank computations, where 20 * 0.9 must be 18


@dataclass(frozen=True, kw_only=True)
class HeldOutValues:
    """A value of held-out cases, such as the volume of a label.

    Args:
        predicted: (cases,) the predicted values.
        true: (cases,) the values of the references.
        folds: (cases,) the fold that held each case out.
        sizes: (cases,) by which cases are small, medium or large; None for the predicted values.
    """

    predicted: Sequence[float]
    true: Sequence[float]
    folds: Sequence[int]
    sizes: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class IntervalDecision:
    """An interval, or why there is none.

    Args:
        calibration: the interval; None when there are too few cases.
        reason: what it was made from and how well it covered, or why there is none.
    """

    calibration: IntervalCalibration | None
    reason: str


def with_intervals(
    fitted: Postprocessing, postprocessed: Summary, dice: Sequence[DicePair], folds: Sequence[int]
) -> Postprocessing:
    """The same settings with the prediction intervals of all volumes and of the Dice, and with their reasons.

    Args:
        fitted: what was learnt on held-out cases; its line predicts the Dice.
        postprocessed: scores of the masks that a user would get, after all post-processing.
        dice: expected and measured Dice of the same cases.
        folds: the fold that held each case out; one and the same fold will do.
    Returns: the settings with the intervals; without those for which there are fewer than 20 cases.
    """
    volumes = calibrate_volumes(postprocessed.cases, folds, list(postprocessed.labels))
    expected, measured = [pair.expected for pair in dice], [pair.measured for pair in dice]
    of_dice = calibrate_dice(expected, measured, folds, fitted.quality)
    reasons = {f"{VOLUME_INTERVAL}{label}": decision.reason for label, decision in volumes.items()}
    return fitted.model_copy(
        update={
            "volume_intervals": {
                label: decision.calibration for label, decision in volumes.items() if decision.calibration
            },
            "dice_interval": of_dice.calibration,
            "reasons": {**fitted.reasons, DICE_INTERVAL: of_dice.reason, **reasons},
        }
    )


def calibrate_volumes(
    scores: Sequence[CaseScores], folds: Sequence[int], labels: Sequence[str], level: float = LEVEL
) -> dict[str, IntervalDecision]:
    """The interval of each label's volume in ml, from the scores of held-out cases after all post-processing.

    Args:
        scores: scores of the masks that a user would get; a case counts for the labels that are annotated in it.
        folds: the fold that held each case out.
        labels: the labels in order.
        level: the share of new cases whose true volume an interval should contain.
    Returns: label to its interval, or why there is none.
    """
    decisions = {}
    for label, pairs in volume_pairs(scores, labels).items():
        if any(isnan(pair.predicted) for pair in pairs):
            decisions[label] = IntervalDecision(calibration=None, reason="none: no held-out volume is wrong")
            continue
        values = HeldOutValues(
            predicted=[pair.predicted for pair in pairs],
            true=[pair.true for pair in pairs],
            folds=[folds[pair.row] for pair in pairs],
        )
        decisions[label] = calibrate_interval(values, "ml", power=POWER, level=level)
    return decisions


def calibrate_dice(
    expected: Sequence[float],
    measured: Sequence[float],
    folds: Sequence[int],
    quality: QualityCalibration | None,
    level: float = LEVEL,
) -> IntervalDecision:
    """The interval of the predicted Dice, from residuals of the line through all other cases.

    Args:
        expected: expected Dice of each case; nan if there is none.
        measured: measured Dice of the same cases; nan if there is none.
        folds: the fold that held each case out.
        quality: the line that was fitted to them; None when there is none.
        level: the share of new cases whose true Dice the interval should contain.
    Returns: the interval, or why there is none.
    """
    if quality is None:
        return IntervalDecision(calibration=None, reason="none: no Dice is predicted")
    enough = sum(isfinite(a) and isfinite(b) for a, b in zip(expected, measured, strict=True)) >= MIN_CASES
    predicted = left_out_predictions(expected, measured, quality) if enough else expected
    rows = zip(predicted, measured, folds, expected, strict=True)
    known = [row for row in rows if isfinite(row[0]) and isfinite(row[1])]
    values = HeldOutValues(
        predicted=[row[0] for row in known],
        true=[row[1] for row in known],
        folds=[row[2] for row in known],
        sizes=[row[3] for row in known],  # where the mean is predicted, leaving a case out orders them by their error
    )
    return calibrate_interval(values, "Dice", power=0.0, limit=1.0, level=level)


def calibrate_interval(
    values: HeldOutValues, unit: str, *, power: float, limit: float | None = None, level: float = LEVEL
) -> IntervalDecision:
    """The interval around predicted values, from the residuals of held-out cases.

    A volume of 0 predicts nothing about its error, so that cases without a prediction are counted, and left out. Where
    nothing is predicted later, there is no interval.

    Args:
        values: predicted and true values of held-out cases.
        unit: unit of the values, "ml" or "Dice".
        power: see `IntervalCalibration`; with 0, cases with a prediction of 0 count, too.
        limit: the largest possible value; None for none.
        level: the share of new cases whose true value the interval should contain.
    Returns: the interval, or why there is none: fewer than 20 cases.
    """
    predicted, true = np.asarray(values.predicted, np.float64), np.asarray(values.true, np.float64)
    used = (predicted > 0) | (power == 0)
    absent, missed = int((~used).sum()), int((true[~used] > 0).sum())
    sizes = np.asarray(values.predicted if values.sizes is None else values.sizes, np.float64)[used]
    folds, predicted, true = np.asarray(values.folds)[used], predicted[used], true[used]
    if len(predicted) < max(MIN_CASES, _fewest(level)):
        without = f" ({absent} more without a prediction)" if absent else ""
        needed = max(MIN_CASES, _fewest(level))
        return IntervalDecision(
            calibration=None, reason=f"none: {len(predicted)} held-out cases{without}, at least {needed} are needed"
        )
    residuals = np.abs(true - predicted) / predicted**power
    inside = _left_out(residuals, np.arange(len(residuals)), level)
    smallest = min(np.count_nonzero(folds != fold) for fold in np.unique(folds))  # cases that are left for a fold
    across = float(_left_out(residuals, folds, level).mean()) if smallest >= _fewest(level) else None
    calibration = IntervalCalibration(
        level=level,
        cases=len(predicted),
        power=power,
        bound=_bound(residuals, level),
        limit=limit,
        typical=float(np.median(predicted)),
        width=0.0,
        coverage=float(inside.mean()),
        thirds=_thirds(sizes, inside),
        folds=across,
        not_predicted=absent,
        missed=missed,
    )
    intervals = [calibration.around(float(value)) for value in predicted]
    width = float(np.mean([interval.high - interval.low for interval in intervals]))
    calibration = calibration.model_copy(update={"width": width})
    return IntervalDecision(calibration=calibration, reason=describe_interval(calibration, unit))


def _fewest(level: float) -> int:
    """The number of cases below which no finite interval has this level."""
    return ceil(level / (1 - level) - _TOLERANCE)


def _bound(residuals: Doubles, level: float) -> float:
    """The k-th smallest residual; infinite for too few."""
    rank = ceil((len(residuals) + 1) * level - _TOLERANCE)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else inf


def _left_out(residuals: Doubles, groups: npt.NDArray[np.int_], level: float) -> npt.NDArray[np.bool_]:
    """For each case, whether the interval of all other groups contains it."""
    inside = np.zeros(len(residuals), bool)
    for group in np.unique(groups):
        own = groups == group
        inside[own] = residuals[own] <= _bound(residuals[~own], level)
    return inside


def _thirds(sizes: Doubles, inside: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Shares inside among the small, the medium and the large third of the cases."""
    small, medium, large = np.array_split(inside[np.argsort(sizes, kind="stable")], 3)
    return float(small.mean()), float(medium.mean()), float(large.mean())
