"""What deletion and insertion found over all cases: areas beside those of random blobs, mean curves, a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, Literal

from attunet.explanation.interventions.faithfulness import CONTROL, Curve, Kind
from attunet.explanation.scoring.conclusions import Estimate, estimate

__all__ = ["CAVEAT", "AreaComparison", "Faithfulness"]

CAVEAT = (
    "A gate's coefficient is a multiplier inside the network, not a cause: these curves tell whether the order of the "
    "coefficients is the order in which the image matters to the mask, not that the gate makes it so."
)

Conclusion = Literal["sooner", "later", "unknown"]

_KINDS: tuple[Kind, ...] = ("deletion", "insertion")


@dataclass(frozen=True)
class AreaComparison:
    """The areas under a gate's curves and under those of random blobs in the same cases.

    Args: gate; label, "" for the mean of the labels; kind; both areas, and the gate's minus the control's.
    """

    gate: str
    label: str
    kind: Kind
    area: Estimate
    control: Estimate
    difference: Estimate

    @property
    def conclusion(self) -> Conclusion:
        """Whether the gate's order harms (deletion) or helps (insertion) sooner than the blobs', by the interval."""
        if not self.difference.excludes_zero:
            return "unknown"
        return "sooner" if (self.difference.mean < 0) == (self.kind == "deletion") else "later"

    def to_json(self) -> dict[str, Any]:
        """The fields by name; nan is None."""
        numbers = {"area": self.area, "control": self.control, "difference": self.difference}
        told = {name: number.to_json() for name, number in numbers.items()}
        return {"gate": self.gate, "label": self.label, "kind": self.kind, **told, "conclusion": self.conclusion}


@dataclass(frozen=True)
class Faithfulness:
    """The curves of all cases (see `delete_and_insert`)."""

    curves: tuple[Curve, ...]

    @property
    def gates(self) -> tuple[str, ...]:
        """Gates and the mean of several, without the controls."""
        return tuple(dict.fromkeys(curve.gate for curve in self.curves if not curve.gate.endswith(CONTROL)))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all cases."""
        return tuple(dict.fromkeys(curve.label for curve in self.curves))

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases in which there is a curve."""
        return tuple(dict.fromkeys(curve.case for curve in self.curves))

    def areas(self, gate: str, kind: Kind, *, label: str = "") -> AreaComparison:
        """Of one gate, by default over all labels."""
        mine, control = (
            {(curve.case, curve.label): curve.area for curve in self._grouped.get((name, kind, label), ())}
            for name in (gate, _control(gate))
        )
        difference = {key: area - control[key] for key, area in mine.items() if key in control}
        return AreaComparison(gate, label, kind, estimate(mine), estimate(control), estimate(difference))

    def mean_curve(self, gate: str, kind: Kind, *, label: str = "") -> tuple[tuple[float, float], ...]:
        """Share and mean Dice over the cases, of a gate or control; by default the mean of the labels'."""
        columns: dict[str, list[tuple[float, ...]]] = {}
        for curve in (chosen := self._grouped.get((gate, kind, label), [])):
            columns.setdefault(curve.label, []).append(curve.dice)
        if not chosen:
            return ()
        means = [[fmean(points) for points in zip(*column, strict=True)] for column in columns.values()]
        return tuple(zip(chosen[0].shares, [fmean(points) for points in zip(*means, strict=True)], strict=True))

    def figure(self, kind: Kind, *, label: str = "") -> dict[str, tuple[tuple[float, float], ...]]:
        """The mean curves of one kind by gate, the control after the gates of its member."""
        every = dict.fromkeys(curve.gate for curve in self.curves)
        return {gate: curve for gate in every if (curve := self.mean_curve(gate, kind, label=label))}

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """One a gate: what its areas are against random blobs, and what that says."""
        return tuple(_sentence(*(self.areas(gate, kind) for kind in _KINDS)) for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        """Sentences, caveat, the areas of each label and of all ("" as label), and every curve."""
        every = [(gate, kind, label) for gate in self.gates for kind in _KINDS for label in ("", *self.labels)]
        return {
            "findings": list(self.findings),
            "caveat": CAVEAT,
            "areas": [self.areas(gate, kind, label=label).to_json() for gate, kind, label in every],
            "curves": [curve.to_json() for curve in self.curves],
        }

    @cached_property
    def _grouped(self) -> dict[tuple[str, Kind, str], list[Curve]]:
        """By gate, kind and label, "" for all labels."""
        found: dict[tuple[str, Kind, str], list[Curve]] = {}
        for curve in self.curves:
            for label in ("", curve.label):
                found.setdefault((curve.gate, curve.kind, label), []).append(curve)
        return found


def _control(gate: str) -> str:
    """The control of a gate's member."""
    member, slash, _ = gate.rpartition("/")
    return f"{member}{slash}{CONTROL}"


def _sentence(deletion: AreaComparison, insertion: AreaComparison) -> str:
    """Only what the intervals bear."""
    return (
        f"{deletion.gate}: taking away what it attends to most harms {_SAID[deletion.conclusion]} "
        f"({_figures(deletion)}); showing it first helps {_SAID[insertion.conclusion]} ({_figures(insertion)})."
    )


_SAID: Mapping[Conclusion, str] = {
    "sooner": "sooner than random blobs do",
    "later": "later than random blobs do",
    "unknown": "not surely sooner or later than random blobs do",
}


def _figures(areas: AreaComparison) -> str:
    return f"area {areas.area.mean:.3f} against {areas.control.mean:.3f}, difference {areas.difference}"
