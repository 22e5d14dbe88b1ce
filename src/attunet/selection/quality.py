"""The predicted Dice: fitted to held-out cases from the expected Dice, with its reliability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from attunet.config import QualityCalibration
from attunet.evaluation.bootstrap import correlation_interval

__all__ = ["MIN_CASES", "fit_quality", "left_out_predictions"]

Doubles = npt.NDArray[np.float64]
MIN_CASES = 5


def fit_quality(expected: Sequence[float], measured: Sequence[float]) -> QualityCalibration | None:
    """Rank correlation of expected and measured Dice of held-out cases, and the line from one to the other.

    The line is fitted by least squares; it is constant at the mean if that predicts left-out cases no worse, or if the
    slope would be negative. Its error is the mean absolute error on left-out cases.

    Args:
        expected: expected Dice of each case in [0, 1]; nan if there is none.
        measured: measured Dice of the same cases.
    Returns: the calibration; None if fewer than five cases have both, or one of the two is constant.
    """
    pairs = np.array([expected, measured], np.float64)
    x, y = pairs[:, np.isfinite(pairs).all(axis=0)]
    if len(x) < MIN_CASES or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    low, high = correlation_interval(x, y)
    slope, intercept = _line(x, y)
    sloping, level = _error(x, y), _error(np.zeros(len(x)), y)
    if level <= sloping:
        slope, intercept = 0.0, float(y.mean())
    return QualityCalibration(
        cases=len(x),
        spearman=float(spearmanr(x, y).statistic),
        low=low,
        high=high,
        slope=slope,
        intercept=intercept,
        error=min(sloping, level),
    )


def left_out_predictions(
    expected: Sequence[float], measured: Sequence[float], quality: QualityCalibration
) -> tuple[float, ...]:
    """The Dice predicted for each case by the line through all others, or by their mean where `quality` does so.

    Args:
        expected: expected Dice of each case in [0, 1]; nan if there is none.
        measured: measured Dice of the same cases.
        quality: the result of `fit_quality` for them.
    Returns: (cases,) predicted Dice in [0, 1]; nan where a case lacks one of the two.
    """
    pairs = np.array([expected, measured], np.float64)
    known = np.asarray(np.isfinite(pairs).all(axis=0))
    x, y = pairs[:, known]
    predicted = np.full(len(measured), np.nan)
    predicted[known] = _left_out(x if quality.slope else np.zeros(len(x)), y)
    return tuple(predicted.tolist())


def _line(x: Doubles, y: Doubles) -> tuple[float, float]:
    """Slope, which is never negative, and intercept."""
    spread = np.square(x - x.mean()).sum()
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum() / spread)) if spread else 0.0
    return slope, float(y.mean() - slope * x.mean())


def _error(x: Doubles, y: Doubles) -> float:
    """Mean absolute error of the Dice predicted for each case by the line through all others."""
    return float(np.mean(np.abs(_left_out(x, y) - y)))


def _left_out(x: Doubles, y: Doubles) -> Doubles:
    """The Dice predicted for each case by the line through all others."""
    lines = [_line(np.delete(x, case), np.delete(y, case)) for case in range(len(x))]
    predicted = [slope * value + intercept for (slope, intercept), value in zip(lines, x, strict=True)]
    return np.asarray(np.clip(predicted, 0.0, 1.0))
