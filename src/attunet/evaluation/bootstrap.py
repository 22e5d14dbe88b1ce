"""Percentile bootstrap intervals of means over cases.

A resample is a row of counts (how often each case was drawn), so the means of all resamples are one matrix product.
This is many times faster than gathering values case by case, and does not need `scipy.stats`.
Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
"""

from __future__ import annotations

from functools import lru_cache
from math import nan

import numpy as np
import numpy.typing as npt

__all__ = ["correlation_interval", "interval", "means_interval"]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

MIN_PAIRS = 3


def interval(values: npt.ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Confidence interval of the mean of (cases,) values; nan among them are left out.

    Args:
        values: (cases,) numbers.
        level: of confidence, in (0, 1).
        resamples: how often the cases are drawn.
        seed: of the draws; equal input gives an equal interval.
    Returns: lower and upper end; (nan, nan) for fewer than two values.
    """
    column = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    return means_interval(column, level=level, resamples=resamples, seed=seed)


def means_interval(values: npt.ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Confidence interval of the mean of the columns' means, such as the mean Dice over labels.

    Whole rows are drawn, because the labels of one case succeed and fail together; a column without values in a
    resample is left out of its mean.

    Args:
        values: (cases, columns), nan where a case does not count in a column.
        level: of confidence, in (0, 1).
        resamples: how often the cases are drawn.
        seed: of the draws.
    Returns: lower and upper end; (nan, nan) when fewer than two cases count.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[~np.isnan(table).all(axis=1)]
    if len(table) < 2:
        return nan, nan
    known = ~np.isnan(table)
    draws = _draws(len(table), resamples, seed)
    counted = draws @ known.astype(np.float64)
    sums = draws @ np.where(known, table, 0.0)
    means = np.divide(sums, counted, out=np.zeros_like(sums), where=counted > 0)
    return _percentiles(means.sum(axis=1) / np.count_nonzero(counted, axis=1), level)


def correlation_interval(
    first: npt.ArrayLike, second: npt.ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Confidence interval of Spearman's rank correlation of two (cases,) sequences; pairs are resampled.

    Pairs that hold a nan are left out, and so are resamples in which one side is constant.

    Args:
        first: (cases,) numbers.
        second: (cases,) numbers of the same cases.
        level: of confidence, in (0, 1).
        resamples: how often the cases are drawn.
        seed: of the draws.
    Returns: lower and upper end; (nan, nan) for fewer than three pairs, or when one side is constant.
    """
    pairs = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]
    cases = pairs.shape[1]
    if cases < MIN_PAIRS or (np.ptp(pairs, axis=1) == 0).any():
        return nan, nan
    chosen = np.random.default_rng(seed).integers(cases, size=(resamples, cases))
    x, y = (_centred_ranks(side[chosen]) for side in pairs)
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return _percentiles((x * y).sum(axis=1)[scale > 0] / scale[scale > 0], level)


@lru_cache(maxsize=2)
def _draws(cases: int, resamples: int, seed: int) -> Floats:
    """(resamples, cases): how often each case was drawn, as many draws as there are cases."""
    chosen = np.random.default_rng(seed).integers(cases, size=(resamples, cases))
    places = chosen + cases * np.arange(resamples)[:, np.newaxis]
    counts = np.bincount(places.ravel(), minlength=resamples * cases)
    return counts.reshape(resamples, cases).astype(np.float64)


def _centred_ranks(values: Floats) -> Floats:
    """Ranks along the rows, ties sharing their mean rank, minus the mean rank."""
    from scipy.stats import rankdata  # costs half a second, and only correlations need it

    ranks: Floats = rankdata(values, axis=1)
    ranks -= (values.shape[1] + 1) / 2
    return ranks


def _percentiles(statistics: Floats, level: float) -> Interval:
    low, high = np.percentile(statistics, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
