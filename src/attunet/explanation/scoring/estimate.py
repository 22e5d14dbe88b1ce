"""A mean over cases and labels, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan
from statistics import fmean
from typing import Any, NamedTuple

from attunet.evaluation.bootstrap import means_interval
from attunet.evaluation.summary_file import plain

__all__ = ["MIN_CASES_FOR_CLAIM", "Estimate", "estimate"]

MIN_CASES_FOR_CLAIM = 5
"""Of fewer cases a bootstrap says too much: three changes of nothing have one sign in one data set of four."""


class Estimate(NamedTuple):
    """Mean of the labels' means, the cases that count, and the 95 % bootstrap interval, whole cases drawn.

    All numbers are nan when no case counts; the interval is, too, for fewer than two.
    """

    mean: float
    low: float
    high: float
    cases: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; never for fewer than `FEWEST_CASES`."""
        return self.cases >= MIN_CASES_FOR_CLAIM and (self.low > 0 or self.high < 0)

    def within(self, bound: float) -> bool:
        """Whether the interval lies between -bound and bound; never for fewer than `FEWEST_CASES`."""
        return self.cases >= MIN_CASES_FOR_CLAIM and self.low > -bound and self.high < bound

    def to_json(self) -> dict[str, Any]:
        """The numbers by name; nan is None."""
        return {"mean": plain(self.mean), "low": plain(self.low), "high": plain(self.high), "cases": self.cases}

    def __str__(self) -> str:
        interval = "" if isnan(self.low) else f", 95% CI {self.low:+.3f} to {self.high:+.3f}"
        return f"{self.mean:+.3f}{interval}"


def estimate(values: Mapping[tuple[str, str], float]) -> Estimate:
    """The estimate of what was measured by (case, label); a nan does not count."""
    known = {key: value for key, value in values.items() if not isnan(value)}
    if not known:
        return Estimate(nan, nan, nan, 0)
    cases, labels = (sorted({key[place] for key in known}) for place in (0, 1))
    mean = fmean(fmean(value for key, value in known.items() if key[1] == label) for label in labels)
    low, high = means_interval([[known.get((case, label), nan) for label in labels] for case in cases])
    return Estimate(mean, low, high, len(cases))
