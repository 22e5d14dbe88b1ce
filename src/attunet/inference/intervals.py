"""Prediction intervals in words: what they were made from, how often they covered, and why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

from attunet.config import IntervalCalibration, Plan, Postprocessing, PredictionInterval
from attunet.data.geometry import rounded
from attunet.display import decimals

__all__ = [
    "DICE_INTERVAL",
    "VOLUME_INTERVAL",
    "describe_interval",
    "interval_reasons",
    "rounded_interval",
    "rounded_intervals",
]

VOLUME_INTERVAL = "volume interval "
"""Followed by a label, the key of `Postprocessing.reasons`."""

DICE_INTERVAL = "Dice interval"

_UNMEASURED = "none: there are no held-out cases; attunet evaluate --cross-validation measures them"
_THIRDS = ("small", "medium", "large")


def describe_interval(calibration: IntervalCalibration, unit: str) -> str:
    """How an interval was made, its width, and its coverage; what falls short of its level is said.

    Args:
        calibration: the interval.
        unit: "ml" or "Dice".
    Returns: a sentence without a full stop.
    """
    shown, typical = calibration.around(calibration.typical), decimals(calibration.typical, 3)
    ends = f"{decimals(shown.low, 3)} to {decimals(shown.high, 3)}"
    text = (
        f"{calibration.level:.0%} from {calibration.cases} held-out cases: {ends} for {typical} {unit}; "
        f"mean width {decimals(calibration.width, 3)}; {_coverage(calibration)}"
    )
    if short := _short(calibration):
        text += f"; short of {calibration.level:.0%} {short}"
    if calibration.not_predicted:
        text += (
            f"; without a prediction there is no interval ({calibration.missed} of {calibration.not_predicted} such "
            "cases have the label)"
        )
    return text


def interval_reasons(postprocessing: Postprocessing, plan: Plan) -> dict[str, str]:
    """For each label, what the interval of its volume was made from, or why there is none; last, that of the Dice.

    Args:
        postprocessing: what a model learnt on held-out cases.
        plan: its plan, for the labels.
    Returns: label to a sentence; the Dice under "predicted Dice".
    """
    volumes = postprocessing.volume_intervals
    reasons = {
        label: _reason(postprocessing, f"{VOLUME_INTERVAL}{label}", volumes.get(label), "ml")
        for label in plan.foreground
    }
    dice = _reason(postprocessing, DICE_INTERVAL, postprocessing.dice_interval, "Dice")
    return {**reasons, "predicted Dice": dice}


def rounded_interval(interval: PredictionInterval | None, digits: int) -> PredictionInterval | None:
    """An interval with this many decimals, or significant digits below 0.1, as the volumes; None stays None."""
    if interval is None:
        return None
    return PredictionInterval(rounded(interval.low, digits), rounded(interval.high, digits), interval.level)


def rounded_intervals(
    intervals: Mapping[str, PredictionInterval | None], digits: int
) -> dict[str, PredictionInterval | None]:
    """See `rounded_interval`."""
    return {name: rounded_interval(interval, digits) for name, interval in intervals.items()}


def _reason(postprocessing: Postprocessing, key: str, calibration: IntervalCalibration | None, unit: str) -> str:
    if calibration is not None:
        return describe_interval(calibration, unit)
    return postprocessing.reasons.get(key, _UNMEASURED)


def _coverage(calibration: IntervalCalibration) -> str:
    thirds = ", ".join(f"{name} {share:.0%}" for name, share in zip(_THIRDS, calibration.thirds, strict=True))
    folds = "" if calibration.folds is None else f", {calibration.folds:.0%} leaving out each fold"
    return f"contains {calibration.coverage:.0%} of them leaving out each case ({thirds}){folds}"


def _short(calibration: IntervalCalibration) -> str:
    """Where the coverage is lower than chance explains (one-sided 95%, normal approximation); empty for nowhere."""
    third = calibration.cases // 3
    shares = [(name, share, third) for name, share in zip(_THIRDS, calibration.thirds, strict=True)]
    words = [f"among {name} values" for name, share, cases in shares if share < _least(calibration.level, cases)]
    least = _least(calibration.level, calibration.cases)
    if calibration.folds is not None and calibration.folds < least:
        words.insert(0, "leaving out each fold")
    if calibration.coverage < least:
        words.insert(0, "leaving out each case")
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _least(level: float, cases: int) -> float:
    return level - 1.645 * sqrt(level * (1 - level) / max(1, cases))
