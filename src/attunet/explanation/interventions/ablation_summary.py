"""What an ablation found over all cases, and in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any, Literal

from attunet.explanation.interventions.ablation import ALL, METRICS, REPLACEMENTS, AblationRow
from attunet.explanation.scoring.conclusions import Estimate, estimate

__all__ = ["CAVEAT", "MIN_CHANGE", "Ablation", "Effect"]

MIN_CHANGE = 0.005
"""A change of Dice that is smaller does not matter to anybody, however sure it is."""

CAVEAT = (
    "The network was trained with its gates: a drop says that it relies on a gate, not that a network without it "
    "would do worse; that is what attunet compare tests."
)

_JUDGED_BY = ("mean", "one", "shuffled", "zero")
_REPLACED = {"mean": "held at its mean", "one": "held at 1", "shuffled": "shuffled in space", "zero": "held at 0"}

Kind = Literal["relied on", "better without", "idle", "unknown"]

_CLAUSES: Mapping[Kind, str] = {
    "relied on": "the network relies on {}",
    "better without": "it does better without {}",
    "idle": "nothing that counts changes without {}",
    "unknown": "of {} it cannot be told",
}


@dataclass(frozen=True)
class Effect:
    """What a replacement does to a metric: the mean change over cases with its interval.

    Args: gate or `ALL`; replacement; label, "" for the mean of the labels; metric; after minus before.
    """

    gate: str
    replacement: str
    label: str
    metric: str
    change: Estimate

    @property
    def kind(self) -> Kind:
        """Of a change of Dice: what it says of the gate.

        It counts when its interval excludes 0 and its mean is at least `LEAST`. A gate is idle only when the interval
        leaves no room for such a change, or excludes 0 with a mean that is smaller; else the cases cannot tell.
        """
        change = self.change
        if change.excludes_zero and abs(change.mean) >= MIN_CHANGE:
            return "relied on" if change.mean < 0 else "better without"
        return "idle" if change.within(MIN_CHANGE) or change.excludes_zero else "unknown"

    def to_json(self) -> dict[str, Any]:
        """The fields by name; nan is None."""
        named = {"gate": self.gate, "replacement": self.replacement, "label": self.label, "metric": self.metric}
        return {**named, "change": self.change.to_json()}


@dataclass(frozen=True)
class Ablation:
    """The rows of all cases (see `ablate_case`)."""

    rows: tuple[AblationRow, ...]

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates, `ALL` last."""
        return tuple(dict.fromkeys(row.gate for row in self.rows))

    @property
    def replacements(self) -> tuple[str, ...]:
        """The replacements that were tried."""
        return tuple(dict.fromkeys(row.replacement for row in self.rows))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all cases."""
        return tuple(dict.fromkeys(row.label for row in self.rows))

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases."""
        return tuple(dict.fromkeys(row.case for row in self.rows))

    def effect(self, gate: str, replacement: str, *, label: str = "", metric: str = "Dice") -> Effect:
        """The change of a metric over the cases in which it is defined before and after; by default of all labels."""
        found = self._grouped.get((gate, replacement, label), ())
        return Effect(
            gate, replacement, label, metric, estimate({(row.case, row.label): row.delta(metric) for row in found})
        )

    def effects(self, *, label: str = "", metric: str = "Dice") -> tuple[Effect, ...]:
        """The effect of every replacement of every gate."""
        return tuple(
            self.effect(gate, replacement, label=label, metric=metric)
            for gate in self.gates
            for replacement in self.replacements
        )

    @cached_property
    def finding(self) -> str:
        """Which gates matter to the mean Dice of the labels, which do not, and of which it cannot be told.

        Judged by the replacement that changes least besides where a gate looks: the mean, or else the first that was
        tried of 1, shuffled and 0. A gate whose map does not matter by that may still not be held at 1.
        """
        if not self.rows:
            return "No gate was replaced."
        judged = next(replacement for replacement in _JUDGED_BY if replacement in self.replacements)
        effects = [self.effect(gate, judged) for gate in self.gates]
        clauses = [_clause(kind, effects, "the map of " if judged == "mean" else "") for kind in _CLAUSES]
        idle = [effect.gate for effect in effects if effect.kind in ("idle", "unknown")]
        opened = [self.effect(gate, "one") for gate in idle] if judged == "mean" and "one" in self.replacements else []
        strength = [_named(effect) for effect in opened if effect.kind == "relied on"]
        if strength:
            clauses.append(f"yet it matters how far open a gate is: held at 1, {_listed(strength)}")
        elif len(idle) == len(effects):
            sure = all(effect.kind == "idle" for effect in (*effects, *opened))
            clauses.insert(0, "no gate matters" if sure else "no gate is seen to matter")
        text = "; ".join(clause for clause in clauses if clause)
        return f"{text[0].upper()}{text[1:]} (change of Dice{self._scored}, the gate {_REPLACED[judged]})."

    @property
    def _scored(self) -> str:
        """Over how many cases, and what the masks were held against where that is no reference."""
        own = {row.case for row in self.rows if row.against == "own mask"}
        counted = f" over {len(self.cases)} case{'s' if len(self.cases) > 1 else ''}"
        return f"{counted}, in {len(own)} of them against its own mask for want of a reference" if own else counted

    @cached_property
    def _grouped(self) -> dict[tuple[str, str, str], list[AblationRow]]:
        """By gate, replacement and label, "" for all labels."""
        found: dict[tuple[str, str, str], list[AblationRow]] = {}
        for row in self.rows:
            for label in ("", row.label):
                found.setdefault((row.gate, row.replacement, label), []).append(row)
        return found

    def to_json(self) -> dict[str, Any]:
        """Sentence, caveat, the effects on each metric of each label and of all ("" as label), and every row."""
        effects = [
            effect
            for metric in METRICS
            for label in ("", *self.labels)
            for effect in self.effects(label=label, metric=metric)
        ]
        return {
            "finding": self.finding,
            "caveat": CAVEAT,
            "replacements": {name: REPLACEMENTS[name] for name in self.replacements},
            "effects": [effect.to_json() for effect in effects],
            "rows": [row.to_json() for row in self.rows],
        }


def _clause(kind: Kind, effects: Sequence[Effect], what: str) -> str:
    """What is said of the gates of one kind; nothing where there is none."""
    named = [_named(effect) for effect in effects if effect.kind == kind]
    return _CLAUSES[kind].format(what + _listed(named)) if named else ""


def _named(effect: Effect) -> str:
    return f"{_called(effect.gate)} ({_figures(effect.change)})"


def _called(gate: str) -> str:
    return "all gates together" if gate == ALL else gate


def _figures(change: Estimate) -> str:
    return "label in no case" if isnan(change.mean) else str(change)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
