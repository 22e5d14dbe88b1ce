"""Paired tests of two methods on the same cases: is one better, by how much, and could it be chance?

Cases in which either value is nan (a label that is in neither mask, or is not annotated) are left out of a pair.
Cases in which both are equal are excluded from the ranking, as in Wilcoxon's test, but count in mean and interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Self

import numpy as np
import numpy.typing as npt

from attunet.evaluation.bootstrap import interval

__all__ = ["ALPHA", "PairedGain", "PairedTest", "holm", "paired_test", "with_holm"]

Doubles = npt.NDArray[np.float64]

ALPHA = 0.05

_MOST_EXACT = 50
_DIGITS = 12  # differences that agree to this many digits count as equal


@dataclass(frozen=True)
class PairedTest:
    """The test of (cases,) differences, first minus second.

    Args:
        cases: number of pairs without nan.
        zeros: number of those without a difference.
        mean: mean difference.
        low: lower end of the 95% bootstrap confidence interval of the mean.
        high: its upper end.
        effect: matched-pairs rank-biserial correlation in [-1, 1]: the share of the ranks that speak for the first
            being larger, minus the share that speaks against it; 0 when no case differs.
        p: p value of the two-sided Wilcoxon signed-rank test; 1 when no case differs.
        holm: p after Holm's correction for the family it was tested in; p itself before the correction.
    All are nan where no pair counts; the interval also for one pair.
    Source: Wilcoxon 1945, Biometrics Bulletin 1(6); Kerby 2014, Comprehensive Psychology 3.
    """

    cases: int
    zeros: int
    mean: float
    low: float
    high: float
    effect: float
    p: float
    holm: float

    @property
    def smallest_p(self) -> float:
        """The p value if all cases that differ did so in one direction: the lowest possible with this many cases."""
        return min(1.0, 2.0 ** (1 - (self.cases - self.zeros)))

    @property
    def decided(self) -> bool:
        """Whether the interval excludes 0 and the corrected p value is below 0.05."""
        return self.holm < ALPHA and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class PairedGain:
    """The mean gain of one method over another on the same cases.

    Args:
        mean: mean gain.
        low: lower end of its 95% bootstrap confidence interval; nan for fewer than two cases.
        high: upper end of the interval.
        cases: number of pairs without nan.
    """

    mean: float
    low: float
    high: float
    cases: int

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float]) -> Self:
        """The gain from (cases,) values to those of the same cases in the same order."""
        gains = np.subtract(after, before)
        gains = gains[~np.isnan(gains)]
        return cls(float(gains.mean()) if len(gains) else nan, *interval(gains), len(gains))

    @property
    def text(self) -> str:
        """The gain in Dice, in words."""
        ends = "" if isnan(self.low) else f" (95% interval {self.low:+.4f} to {self.high:+.4f})"
        return f"{self.mean:+.4f} Dice{ends} over {self.cases} cases"


def paired_test(first: Mapping[str, float], second: Mapping[str, float]) -> PairedTest:
    """Compare two methods by their values, case name to number, on the cases that both have."""
    shared = [case for case in first if case in second]
    differences = np.array([first[case] - second[case] for case in shared], np.float64)
    differences = differences[~np.isnan(differences)]
    if not differences.size:
        return PairedTest(0, 0, nan, nan, nan, nan, nan, nan)
    moved = differences[differences != 0]
    low, high = interval(differences)
    p = _wilcoxon(moved)
    return PairedTest(
        cases=len(differences),
        zeros=len(differences) - len(moved),
        mean=float(differences.mean()),
        low=low,
        high=high,
        effect=_rank_biserial(moved),
        p=p,
        holm=p,
    )


def with_holm(tests: Sequence[PairedTest]) -> tuple[PairedTest, ...]:
    """The same tests with their p values corrected as one family."""
    return tuple(replace(test, holm=p) for test, p in zip(tests, holm([test.p for test in tests]), strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, which bounds the chance of any false alarm; nan does not count and stays nan.

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2).
    """
    ranked = sorted((p, index) for index, p in enumerate(p_values) if not isnan(p))
    corrected, largest = [nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(ranked):
        largest = max(largest, min(1.0, p * (len(ranked) - rank)))
        corrected[index] = largest
    return corrected


def _wilcoxon(moved: Doubles) -> float:
    """Two-sided p value: exact for up to 50 cases without ties, otherwise by the normal approximation with ties."""
    if not moved.size:
        return 1.0
    from scipy.stats import wilcoxon

    sizes = moved.round(_DIGITS)
    exact = len(sizes) <= _MOST_EXACT and len(np.unique(np.abs(sizes))) == len(sizes)
    return float(wilcoxon(sizes, method="exact" if exact else "approx").pvalue)


def _rank_biserial(moved: Doubles) -> float:
    if not moved.size:
        return 0.0
    ranks = _ranks(moved)
    return float((ranks * np.sign(moved)).sum() / ranks.sum())


def _ranks(moved: Doubles) -> Doubles:
    """Ranks of the absolute differences, from 1; equal ones (to twelve digits) share their mean rank."""
    from scipy.stats import rankdata  # costs half a second, and only comparisons need it

    ranks: Doubles = rankdata(np.abs(moved).round(_DIGITS))
    return ranks
