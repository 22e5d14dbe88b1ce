"""The finding claims no more than the intervals support."""

import json
from dataclasses import replace
from math import nan

import pytest

from attunet.explanation.interventions.ablation import ABLATION_METRICS, ALL, AblationRow
from attunet.explanation.interventions.ablation_summary import Ablation, Effect
from attunet.explanation.scoring.conclusions import Estimate


def rows(gate, changes, replacement="mean", label="body"):
    """One row a case, whose Dice, Recall and HD95 change by as much."""
    before = dict.fromkeys(ABLATION_METRICS, 0.8)
    return [
        AblationRow(gate, replacement, f"case{index}", label, before, dict.fromkeys(ABLATION_METRICS, 0.8 + change))
        for index, change in enumerate(changes)
    ]


DROPS = [-0.1, -0.12, -0.08, -0.11, -0.09, -0.1]
RISES = [-change for change in DROPS]
IDLE = [0.001, -0.001, 0.0, 0.001, -0.001, 0.0]
TINY = [-0.002, -0.0021, -0.0019, -0.002, -0.002, -0.002]
WILD = [0.3, -0.3, 0.2, -0.2, 0.1, -0.15]


def test_gates_are_grouped_by_their_effect():
    found = Ablation(tuple(rows("level2", DROPS) + rows("level3", IDLE) + rows("level4", WILD) + rows("level5", RISES)))
    kinds = {gate: found.effect(gate, "mean").kind for gate in found.gates}
    assert kinds == {"level2": "relied on", "level3": "idle", "level4": "unknown", "level5": "better without"}
    sentence = found.finding
    assert "relies on the map of level2 (-0.100, 95% CI -0." in sentence
    assert "better without the map of level5" in sentence
    assert "the map of level3 (" in sentence
    assert "do not show whether it needs the map of level4 (" in sentence
    assert "over 6 cases, the gate held at its mean" in sentence
    assert "gate matters" not in sentence


def test_no_gate_matters_only_when_the_intervals_show_it():
    idle = rows("level2", IDLE) + rows("level3", TINY) + rows(ALL, IDLE)
    assert Ablation(tuple(idle)).finding.startswith("No gate matters; ")
    assert Ablation(tuple(idle + rows("level4", WILD))).finding.startswith("No gate is shown to matter; ")
    assert Ablation(tuple(rows("level2", DROPS[:2]))).finding.startswith("No gate is shown to matter; these cases")


def test_a_gate_whose_strength_matters_is_reported():
    found = Ablation(tuple(rows("level2", IDLE) + rows("level2", DROPS, "one")))
    assert "gate matters" not in found.finding
    assert "held at 1, level2 (-0.100" in found.finding
    unsure = Ablation(tuple(rows("level2", IDLE) + rows("level2", WILD, "one")))
    assert unsure.finding.startswith("No gate is shown to matter")


def test_without_the_mean_another_replacement_is_used():
    found = Ablation(tuple(rows("level2", DROPS, "zero") + rows(ALL, DROPS, "zero")))
    assert "relies on level2 (-0.100" in found.finding
    assert "all gates together (-0.100" in found.finding
    assert found.finding.endswith("the gate held at 0).")


def test_cases_without_a_reference_are_counted():
    every = [replace(row, against="own mask") if row.case == "case1" else row for row in rows("level2", DROPS)]
    assert "over 6 cases, in 1 of them against its own mask" in Ablation(tuple(every)).finding


def test_an_empty_ablation_has_a_finding():
    assert Ablation(()).finding == "No gate was replaced."
    assert "no case with a label" in Ablation(tuple(rows("level2", [nan] * 6))).finding


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (Estimate(-0.004, -0.0049, -0.003, 9), "idle"),
        (Estimate(-0.006, -0.02, 0.001, 9), "unknown"),
        (Estimate(-0.006, -0.02, -0.001, 9), "relied on"),
        (Estimate(nan, nan, nan, 0), "unknown"),
    ],
)
def test_a_change_is_relevant_when_it_is_certain_and_large(change, kind):
    assert Effect("level2", "mean", "", "Dice", change).kind == kind


def test_effects_by_label_and_all_as_json():
    found = Ablation(tuple(rows("level2", DROPS) + rows("level2", IDLE, label="lesion")))
    assert found.effect("level2", "mean", label="lesion").change.mean == pytest.approx(0, abs=1e-9)
    assert found.effect("level2", "mean").change.mean == pytest.approx(-0.05)
    assert [effect.gate for effect in found.effects(metric="HD95")] == ["level2"]
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert len(values["rows"]) == 12
    assert len(values["effects"]) == len(ABLATION_METRICS) * 3
    assert {"finding", "caveat", "replacements"} < set(values)
