"""What may be concluded about a gate and an organ: estimates over cases, and no more than their intervals support."""

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
    "estimate",
    "sentence",
]


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


TRAINED = "trained"

SHUFFLED = "shuffled weights"

OTHER_CASES = "other cases"

NULLS: Mapping[str, str] = {SHUFFLED: "shuffled weights", OTHER_CASES: "other cases' maps"}
"""What a trained gate has to beat, and how a sentence calls it."""

MIN_CASES = 6
"""From fewer nothing is claimed: even five that all agree do so by chance in more than 5 of 100 (2 / 2**5)."""

NEGLIGIBLE, SLIGHT = 1.05, 1.25
"""Lifts this close to 1, up or down, are nothing to speak of, or hardly anything, however sure they are."""

Conclusion = Literal[
    "absent", "too few cases", "unknown", "nowhere", "not beyond a null", "untested", "hardly", "looks at", "looks away"
]


@dataclass(frozen=True)
class NullComparison:
    """One metric of one gate and label: the trained gate beside its nulls.

    Args:
        trained: mean over the cases that count, and its interval.
        nulls: by source (a key of `NULLS`) the same of what was measured.
        differences: by source, trained - null in the cases that both have, and its interval.
    """

    gate: str
    label: str
    metric: str
    trained: Estimate
    nulls: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Means, intervals and numbers of cases by source; nan is None."""
        beside = {source: found.to_json() for source, found in self.nulls.items()}
        minus = {f"{TRAINED} - {source}": found.to_json() for source, found in self.differences.items()}
        return {TRAINED: self.trained.to_json(), **beside, **minus}


def conclusion(lift: NullComparison) -> Conclusion:
    """The claim that the lift of a gate and label bears.

    "absent": no case shows the label. "too few cases": fewer than `LEAST_CASES`. "nowhere": the interval holds chance,
    1, and nothing far from it, or is all but 1. "unknown": it holds 1 and much else. "not beyond a null": chance is
    excluded, but the difference to a null does not exclude 0. "untested": a null was not measured in enough cases. Else
    "looks at", "looks away", or "hardly", for an interval that stays close to 1.
    """
    found = lift.trained
    if not found.cases:
        return "absent"
    if found.cases < MIN_CASES:
        return "too few cases"
    holds_chance = found.low <= 1 <= found.high
    if _within(found, SLIGHT if holds_chance else NEGLIGIBLE):
        return "nowhere"
    if holds_chance:
        return "unknown"
    if _unbeaten(lift):
        return "not beyond a null"
    if _untested(lift):
        return "untested"
    if _within(found, SLIGHT):
        return "hardly"
    return "looks at" if found.mean > 1 else "looks away"


def sentence(lift: NullComparison) -> str:
    """That verdict in plain words with its numbers, without a full stop."""
    what, gate, organ = conclusion(lift), lift.gate, _organ(lift.label)
    if what == "absent":
        return f"{gate}: no case shows {organ}"
    more, times = _direction(lift), _times(lift.trained.mean)
    amount = f"{times} times as much as chance {_interval(lift.trained)}"
    put = f"{gate} puts {times} times as much attention on {organ} as chance"
    ending = _ending(lift, list(lift.nulls))
    match what:
        case "too few cases":
            counted = f"{lift.trained.cases} case{'s' if lift.trained.cases > 1 else ''}"
            return f"{put} in {counted}, too few to tell where it looks{ending}"
        case "unknown":
            return f"whether {gate} looks at {organ}, {lift.trained.cases} cases cannot tell: {amount}{ending}"
        case "nowhere":
            return f"{gate} looks nowhere in particular with respect to {organ}: {amount}{ending}"
        case "not beyond a null":
            lost = _unbeaten(lift)
            named = " and ".join(f"{NULLS[source]} ({_times(lift.nulls[source].mean)})" for source in lost)
            rest = _ending(lift, [source for source in lift.nulls if source not in lost])
            return f"{put} {_interval(lift.trained)}, which is not shown to be {more} than with {named}{rest}"
        case "untested":
            named = " and ".join(NULLS[source] for source in _untested(lift))
            return f"{put} {_interval(lift.trained)}, not tested against {named}{ending}"
        case "hardly":
            return f"{gate} looks hardly {more} at {organ} than elsewhere: {amount}{ending}"
        case _:
            return f"{gate} {what} {'from ' if what == 'looks away' else ''}{organ}: {amount}{ending}"


def _within(found: Estimate, factor: float) -> bool:
    return 1 / factor < found.low and found.high < factor


def _direction(lift: NullComparison) -> str:
    return "more" if lift.trained.mean > 1 else "less"


def _untested(lift: NullComparison) -> list[str]:
    return [source for source in NULLS if source not in lift.differences or _few(lift.differences[source])]


def _unbeaten(lift: NullComparison) -> list[str]:
    """The nulls that were measured, and from which the trained gate does not differ in its own direction."""
    found = {source: gap for source, gap in lift.differences.items() if not _few(gap)}
    more = lift.trained.mean > 1
    return [source for source, gap in found.items() if not (gap.low > 0 if more else gap.high < 0)]


def _few(gap: Estimate) -> bool:
    return gap.cases < MIN_CASES


def _ending(lift: NullComparison, sources: Sequence[str]) -> str:
    known = {source: lift.nulls[source].mean for source in sources if plain(lift.nulls[source].mean) is not None}
    parts = ", ".join(f"with {NULLS[source]} {_times(mean)}" for source, mean in known.items())
    return f"; {parts}" if parts else ""


def _interval(found: Estimate) -> str:
    return f"({_times(found.low)} to {_times(found.high)})"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 1.995 else f"{value:.1f}"


def _organ(label: str) -> str:
    return label if label.startswith("label_") else f"the {label}"
