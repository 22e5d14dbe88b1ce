"""Conclusions about a gate and an organ: estimates over cases, and statements that their intervals support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean
from typing import Any, Literal, NamedTuple

from attunet.evaluation.bootstrap import means_interval
from attunet.evaluation.summary_file import plain

__all__ = [
    "MIN_CASES",
    "MIN_CASES_FOR_CLAIM",
    "NULLS",
    "OTHER_CASES",
    "SHUFFLED",
    "TRAINED",
    "Conclusion",
    "Estimate",
    "NullComparison",
    "conclusion",
    "describe_conclusion",
    "estimate",
]


MIN_CASES_FOR_CLAIM = 5
"""With fewer cases, a bootstrap claims too much: three random changes have the same sign in one of four data sets."""


class Estimate(NamedTuple):
    """A mean over cases and labels with its 95% bootstrap interval; whole cases are resampled.

    Args:
        mean: mean of the labels' means; nan when no case counts.
        low, high: limits of the interval; nan for fewer than two cases.
        cases: number of cases that count.
    """

    mean: float
    low: float
    high: float
    cases: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; never for fewer than `MIN_CASES_FOR_CLAIM`."""
        return self.cases >= MIN_CASES_FOR_CLAIM and (self.low > 0 or self.high < 0)

    def within(self, bound: float) -> bool:
        """Whether the interval lies between -bound and bound; never for fewer than `MIN_CASES_FOR_CLAIM`."""
        return self.cases >= MIN_CASES_FOR_CLAIM and self.low > -bound and self.high < bound

    def to_json(self) -> dict[str, Any]:
        """The numbers by name; nan becomes None."""
        return {"mean": plain(self.mean), "low": plain(self.low), "high": plain(self.high), "cases": self.cases}

    def __str__(self) -> str:
        interval = "" if isnan(self.low) else f", 95% CI {self.low:+.3f} to {self.high:+.3f}"
        return f"{self.mean:+.3f}{interval}"


def estimate(values: Mapping[tuple[str, str], float]) -> Estimate:
    """The estimate from values by (case, label); a nan does not count."""
    known = {key: value for key, value in values.items() if not isnan(value)}
    if not known:
        return Estimate(nan, nan, nan, 0)
    cases, labels = (sorted({key[place] for key in known}) for place in (0, 1))
    mean = fmean(fmean(value for key, value in known.items() if key[1] == label) for label in labels)
    low, high = means_interval([[known.get((case, label), nan) for label in labels] for case in cases])
    return Estimate(mean, low, high, len(cases))


TRAINED = "trained"

SHUFFLED = "shuffled weights"

OTHER_CASES = "other cases"

NULLS: Mapping[str, str] = {SHUFFLED: "shuffled weights", OTHER_CASES: "other cases' maps"}
"""Null maps that a trained gate has to beat, and their names in sentences."""

MIN_CASES = 6
"""With fewer cases, nothing is claimed: five cases agree by chance with a probability above 5% (2 / 2**5)."""

NEGLIGIBLE, SLIGHT = 1.05, 1.25
"""Lifts within these factors of 1 are negligible, or slight, however narrow their interval."""

Conclusion = Literal[
    "absent", "too few cases", "unknown", "nowhere", "not beyond a null", "untested", "hardly", "looks at", "looks away"
]


@dataclass(frozen=True)
class NullComparison:
    """One metric of one gate and label: the trained gate compared with its null maps.

    Args:
        gate: name of the map.
        label: name of the organ; "" for the map alone.
        metric: a key of `ATTENTION_METRICS`, or of `MAP_METRICS` for the map alone.
        trained: mean over the cases that count, and its interval.
        nulls: the same for each null map that was measured, by its key in `NULLS`.
        differences: trained minus null over the cases that both have, with its interval, by the same keys.
    """

    gate: str
    label: str
    metric: str
    trained: Estimate
    nulls: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Means, intervals and numbers of cases by source; nan becomes None."""
        nulls = {source: value.to_json() for source, value in self.nulls.items()}
        minus = {f"{TRAINED} - {source}": value.to_json() for source, value in self.differences.items()}
        return {TRAINED: self.trained.to_json(), **nulls, **minus}


def conclusion(lift: NullComparison) -> Conclusion:
    """The conclusion that the lift of a gate and label supports.

    "absent": no case shows the label. "too few cases": fewer than `MIN_CASES`. "nowhere": the interval contains 1,
    which is chance, and only values close to it, or is negligibly different from 1. "unknown": it contains 1 and values
    far from it. "not beyond a null": chance is excluded, but the difference from a null does not exclude 0. "untested":
    a null was not measured in enough cases. Otherwise "looks at", "looks away", or "hardly" (interval close to 1).
    """
    trained = lift.trained
    if not trained.cases:
        return "absent"
    if trained.cases < MIN_CASES:
        return "too few cases"
    contains_chance = trained.low <= 1 <= trained.high
    if _within(trained, SLIGHT if contains_chance else NEGLIGIBLE):
        return "nowhere"
    if contains_chance:
        return "unknown"
    if _unbeaten(lift):
        return "not beyond a null"
    if _untested(lift):
        return "untested"
    if _within(trained, SLIGHT):
        return "hardly"
    return "looks at" if trained.mean > 1 else "looks away"


def describe_conclusion(lift: NullComparison) -> str:
    """The conclusion in plain words with its numbers, without a full stop."""
    kind, gate, organ = conclusion(lift), lift.gate, _organ(lift.label)
    if kind == "absent":
        return f"{gate}: no case shows {organ}"
    more, times = _direction(lift), _times(lift.trained.mean)
    amount = f"{times} times as much as chance {_interval(lift.trained)}"
    put = f"{gate} puts {times} times as much attention on {organ} as chance"
    ending = _ending(lift, list(lift.nulls))
    match kind:
        case "too few cases":
            counted = f"{lift.trained.cases} case{'s' if lift.trained.cases > 1 else ''}"
            return f"{put} in {counted}, too few to say where it looks{ending}"
        case "unknown":
            return f"{lift.trained.cases} cases do not show whether {gate} looks at {organ}: {amount}{ending}"
        case "nowhere":
            return f"{gate} puts no particular attention on {organ}: {amount}{ending}"
        case "not beyond a null":
            lost = _unbeaten(lift)
            named = " and ".join(f"{NULLS[source]} ({_times(lift.nulls[source].mean)})" for source in lost)
            rest = _ending(lift, [source for source in lift.nulls if source not in lost])
            return f"{put} {_interval(lift.trained)}, which is not shown to be {more} than with {named}{rest}"
        case "untested":
            named = " and ".join(NULLS[source] for source in _untested(lift))
            return f"{put} {_interval(lift.trained)}, not tested against {named}{ending}"
        case "hardly":
            return f"{gate} looks only slightly {more} at {organ} than elsewhere: {amount}{ending}"
        case _:
            return f"{gate} {kind} {'from ' if kind == 'looks away' else ''}{organ}: {amount}{ending}"


def _within(value: Estimate, factor: float) -> bool:
    return 1 / factor < value.low and value.high < factor


def _direction(lift: NullComparison) -> str:
    return "more" if lift.trained.mean > 1 else "less"


def _untested(lift: NullComparison) -> list[str]:
    return [source for source in NULLS if source not in lift.differences or _too_few(lift.differences[source])]


def _unbeaten(lift: NullComparison) -> list[str]:
    """The measured nulls that the trained gate does not exceed (or, if it looks away, undercut)."""
    measured = {source: gap for source, gap in lift.differences.items() if not _too_few(gap)}
    more = lift.trained.mean > 1
    return [source for source, gap in measured.items() if not (gap.low > 0 if more else gap.high < 0)]


def _too_few(gap: Estimate) -> bool:
    return gap.cases < MIN_CASES


def _ending(lift: NullComparison, sources: Sequence[str]) -> str:
    known = {source: lift.nulls[source].mean for source in sources if plain(lift.nulls[source].mean) is not None}
    parts = ", ".join(f"with {NULLS[source]} {_times(mean)}" for source, mean in known.items())
    return f"; {parts}" if parts else ""


def _interval(value: Estimate) -> str:
    return f"({_times(value.low)} to {_times(value.high)})"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 1.995 else f"{value:.1f}"


def _organ(label: str) -> str:
    return label if label.startswith("label_") else f"the {label}"
