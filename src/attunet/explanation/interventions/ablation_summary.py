"""The results of an ablation over all cases, with a one-sentence conclusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any, Literal

from attunet.explanation.interventions.ablation import ABLATION_METRICS, ALL, REPLACEMENTS, AblationRow
from attunet.explanation.interventions.context import CONTEXT_REPLACEMENTS
from attunet.explanation.scoring.conclusions import Estimate, estimate
from attunet.gates import is_localizer_map

__all__ = ["CAVEAT", "MIN_CHANGE", "Ablation", "Effect"]

MIN_CHANGE = 0.005
"""A smaller change in Dice does not matter in practice, however narrow its interval."""

CAVEAT = (
    "The network was trained with its gates: a drop shows that it relies on a gate, not that a network trained without "
    "it would be worse; attunet compare tests that."
)

_PREFERRED = ("mean", "one", "shuffled", "zero")
_REPLACED = {"mean": "held at its mean", "one": "held at 1", "shuffled": "shuffled in space", "zero": "held at 0"}

_NOTHING = {
    (False, True): "no gate matters",
    (False, False): "no gate is shown to matter",
    (True, True): "neither gates nor context matter",
    (True, False): "neither gates nor context are shown to matter",
}
"""The clause where nothing matters, by whether there is a context, and whether the cases show it."""

Kind = Literal["relied on", "better without", "idle", "unknown"]

_CLAUSES: Mapping[Kind, str] = {
    "relied on": "the network relies on {}",
    "better without": "it scores better without {}",
    "idle": "no relevant change without {}",
    "unknown": "these cases do not show whether it needs {}",
}


@dataclass(frozen=True)
class Effect:
    """The mean change of a metric over cases when a gate is replaced, with its interval.

    Args:
        gate: its name, or `ALL`.
        replacement: a key of `REPLACEMENTS`.
        label: name of the label; "" for the mean of the labels.
        metric: one of `ABLATION_METRICS`.
        change: after minus before.
    """

    gate: str
    replacement: str
    label: str
    metric: str
    change: Estimate

    @property
    def kind(self) -> Kind:
        """The conclusion that a change in Dice supports.

        It is relevant when its interval excludes 0 and its mean is at least `MIN_CHANGE`. A gate is idle only when the
        interval excludes such a change, or excludes 0 with a smaller mean; otherwise the cases do not show it.
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
        """The change of a metric over the cases in which it is defined before and after.

        Args:
            gate: its name, or `ALL`.
            replacement: a key of `REPLACEMENTS`.
            label: name of the label; "" for the mean of the labels.
            metric: one of `ABLATION_METRICS`.
        Returns: the mean change with its interval.
        """
        rows = self._grouped.get((gate, replacement, label), ())
        return Effect(
            gate, replacement, label, metric, estimate({(row.case, row.label): row.delta(metric) for row in rows})
        )

    def effects(self, *, label: str = "", metric: str = "Dice") -> tuple[Effect, ...]:
        """The effect of every replacement of every gate."""
        return tuple(
            self.effect(gate, replacement, label=label, metric=metric)
            for gate in self.gates
            for replacement in self.replacements
            if self._tried(gate, replacement)
        )

    @cached_property
    def finding(self) -> str:
        """Which gates matter to the mean Dice of the labels, which do not, and for which the cases do not tell.

        This uses the replacement that removes only the information where a gate looks: the mean, or else the first of
        1, shuffled and 0 that was tried. A gate whose map does not matter in this test may still matter when it is held
        at 1.
        """
        if not self.rows:
            return "No gate was replaced."
        tried = [replacement for replacement in _PREFERRED if replacement in self.replacements]
        common = [name for name in tried if all(self._tried(gate, name) for gate in self.gates)]
        replaced = (common or tried)[0]
        effects = [self.effect(gate, replaced) for gate in self.gates if self._tried(gate, replaced)]
        cascade = any(is_localizer_map(effect.gate) for effect in effects)
        clauses = [_clause(kind, effects, "the map of " if replaced == "mean" else "") for kind in _CLAUSES]
        idle = [effect.gate for effect in effects if effect.kind in ("idle", "unknown")]
        opened = [self.effect(gate, "one") for gate in idle if replaced == "mean" and self._tried(gate, "one")]
        strength = [_named(effect) for effect in opened if effect.kind == "relied on"]
        if strength:
            clauses.append(f"but its strength matters: held at 1, {_listed(strength)}")
        elif len(idle) == len(effects):
            sure = all(effect.kind == "idle" for effect in (*effects, *opened))
            clauses.insert(0, _NOTHING[cascade, sure])
        text = "; ".join(clause for clause in clauses if clause)
        what = "the gate or the context" if cascade else "the gate"
        return f"{text[0].upper()}{text[1:]} (change in Dice{self._scored}, {what} {_REPLACED[replaced]})."

    def _tried(self, gate: str, replacement: str) -> bool:
        """Whether the gate was replaced in this way; a context is not shuffled or opened, a gate is not shifted."""
        return (gate, replacement, "") in self._grouped

    @property
    def _scored(self) -> str:
        """A clause on the number of cases, and on masks that were scored without a reference."""
        own = {row.case for row in self.rows if row.against == "own mask"}
        counted = f" over {len(self.cases)} case{'s' if len(self.cases) > 1 else ''}"
        return f"{counted}, in {len(own)} of them against its own mask, without a reference" if own else counted

    @cached_property
    def _grouped(self) -> dict[tuple[str, str, str], list[AblationRow]]:
        """Rows by gate, replacement and label ("" for all labels)."""
        groups: dict[tuple[str, str, str], list[AblationRow]] = {}
        for row in self.rows:
            for label in ("", row.label):
                groups.setdefault((row.gate, row.replacement, label), []).append(row)
        return groups

    def to_json(self) -> dict[str, Any]:
        """Finding, caveat, the effects on each metric of each label and of all ("" as label), and every row."""
        effects = [
            effect
            for metric in ABLATION_METRICS
            for label in ("", *self.labels)
            for effect in self.effects(label=label, metric=metric)
        ]
        return {
            "finding": self.finding,
            "caveat": CAVEAT,
            "replacements": {name: REPLACEMENTS[name] for name in self.replacements if name in REPLACEMENTS},
            "context_replacements": dict(CONTEXT_REPLACEMENTS) if any(map(is_localizer_map, self.gates)) else {},
            "effects": [effect.to_json() for effect in effects],
            "rows": [row.to_json() for row in self.rows],
        }


def _clause(kind: Kind, effects: Sequence[Effect], what: str) -> str:
    """The clause about the gates of one kind; empty where there is none."""
    named = [_named(effect) for effect in effects if effect.kind == kind]
    return _CLAUSES[kind].format(what + _listed(named)) if named else ""


def _named(effect: Effect) -> str:
    return f"{_called(effect.gate)} ({_figures(effect.change)})"


def _called(gate: str) -> str:
    if is_localizer_map(gate):
        return f"{gate} (its context)"
    return "all gates together" if gate == ALL else gate


def _figures(change: Estimate) -> str:
    return "no case with a label" if isnan(change.mean) else str(change)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
