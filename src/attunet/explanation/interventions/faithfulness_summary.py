"""Deletion and insertion over all cases: areas compared with those of random blobs, mean curves, findings."""

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
    "A gate's coefficient is a multiplier inside the network, not a cause: these curves show whether the order of "
    "the coefficients is the order in which the image matters to the mask, not that the gate causes it."
)

Conclusion = Literal["sooner", "later", "unknown"]

_KINDS: tuple[Kind, ...] = ("deletion", "insertion")


@dataclass(frozen=True)
class AreaComparison:
    """The areas under a gate's curves and under those of random blobs in the same cases.

    Args:
        gate: its name, or `MEAN`.
        label: name of the label; "" for the mean of the labels.
        kind: "deletion" or "insertion".
        area: area of the gate.
        control: area of the random blobs.
        difference: the gate's minus the control's.
    """

    gate: str
    label: str
    kind: Kind
    area: Estimate
    control: Estimate
    difference: Estimate

    @property
    def conclusion(self) -> Conclusion:
        """Whether the Dice changes sooner in the gate's order than in the blobs', according to the interval."""
        if not self.difference.excludes_zero:
            return "unknown"
        return "sooner" if (self.difference.mean < 0) == (self.kind == "deletion") else "later"

    def to_json(self) -> dict[str, Any]:
        """The fields by name; nan becomes None."""
        numbers = {"area": self.area, "control": self.control, "difference": self.difference}
        values = {name: number.to_json() for name, number in numbers.items()}
        return {"gate": self.gate, "label": self.label, "kind": self.kind, **values, "conclusion": self.conclusion}


@dataclass(frozen=True)
class Faithfulness:
    """The curves of all cases (see `delete_and_insert`)."""

    curves: tuple[Curve, ...]

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates and, for several, their mean, without the controls."""
        return tuple(dict.fromkeys(curve.gate for curve in self.curves if not curve.gate.endswith(CONTROL)))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all cases."""
        return tuple(dict.fromkeys(curve.label for curve in self.curves))

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases with a curve."""
        return tuple(dict.fromkeys(curve.case for curve in self.curves))

    def areas(self, gate: str, kind: Kind, *, label: str = "") -> AreaComparison:
        """The areas of one gate.

        Args:
            gate: its name, or `MEAN`.
            kind: "deletion" or "insertion".
            label: name of the label; "" for the mean of the labels.
        Returns: the areas of the gate and of random blobs.
        """
        mine, control = (
            {(curve.case, curve.label): curve.area for curve in self._grouped.get((name, kind, label), ())}
            for name in (gate, _control(gate))
        )
        difference = {key: area - control[key] for key, area in mine.items() if key in control}
        return AreaComparison(gate, label, kind, estimate(mine), estimate(control), estimate(difference))

    def mean_curve(self, gate: str, kind: Kind, *, label: str = "") -> tuple[tuple[float, float], ...]:
        """The mean curve over the cases.

        Args:
            gate: its name, or `MEAN` or `CONTROL`.
            kind: "deletion" or "insertion".
            label: name of the label; "" for the mean of the labels.
        Returns: share and mean Dice of each point; empty where there is no curve.
        """
        columns: dict[str, list[tuple[float, ...]]] = {}
        for curve in (chosen := self._grouped.get((gate, kind, label), [])):
            columns.setdefault(curve.label, []).append(curve.dice)
        if not chosen:
            return ()
        means = [[fmean(points) for points in zip(*column, strict=True)] for column in columns.values()]
        return tuple(zip(chosen[0].shares, [fmean(points) for points in zip(*means, strict=True)], strict=True))

    def figure(self, kind: Kind, *, label: str = "") -> dict[str, tuple[tuple[float, float], ...]]:
        """The mean curves of one kind by gate; the control follows the gates of its member."""
        every = dict.fromkeys(curve.gate for curve in self.curves)
        return {gate: curve for gate in every if (curve := self.mean_curve(gate, kind, label=label))}

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """One sentence for each gate: its areas against those of random blobs."""
        return tuple(_sentence(*(self.areas(gate, kind) for kind in _KINDS)) for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        """Findings, caveat, the areas of each label and of all ("" as label), and every curve."""
        every = [(gate, kind, label) for gate in self.gates for kind in _KINDS for label in ("", *self.labels)]
        return {
            "findings": list(self.findings),
            "caveat": CAVEAT,
            "areas": [self.areas(gate, kind, label=label).to_json() for gate, kind, label in every],
            "curves": [curve.to_json() for curve in self.curves],
        }

    @cached_property
    def _grouped(self) -> dict[tuple[str, Kind, str], list[Curve]]:
        """Curves by gate, kind and label ("" for all labels)."""
        groups: dict[tuple[str, Kind, str], list[Curve]] = {}
        for curve in self.curves:
            for label in ("", curve.label):
                groups.setdefault((curve.gate, curve.kind, label), []).append(curve)
        return groups


def _control(gate: str) -> str:
    """The control of a gate's member."""
    member, slash, _ = gate.rpartition("/")
    return f"{member}{slash}{CONTROL}"


def _sentence(deletion: AreaComparison, insertion: AreaComparison) -> str:
    """The finding about one gate; it claims no more than the intervals support."""
    return (
        f"{deletion.gate}: deleting what it attends to most lowers the Dice {_PHRASES[deletion.conclusion]} "
        f"({_figures(deletion)}); inserting it first raises the Dice {_PHRASES[insertion.conclusion]} "
        f"({_figures(insertion)})."
    )


_PHRASES: Mapping[Conclusion, str] = {
    "sooner": "sooner than random blobs",
    "later": "later than random blobs",
    "unknown": "neither clearly sooner nor later than random blobs",
}


def _figures(areas: AreaComparison) -> str:
    return f"area {areas.area.mean:.3f} against {areas.control.mean:.3f}, difference {areas.difference}"
