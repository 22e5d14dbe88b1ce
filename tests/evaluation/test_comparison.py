"""Conclusions of a comparison: whether the gate helps, and when the data cannot tell."""

from __future__ import annotations

import json
from math import isnan

import numpy as np
import pytest

from attunet.evaluation.comparison import ALL_LABELS, ModelComparison
from attunet.evaluation.comparison_file import comparison_to_json
from attunet.evaluation.metrics import COMPARED


@pytest.fixture
def compared(make_compared):
    def make(offsets, *, cases=20, labels=("organ",), gates=("grid", None, None)):
        """Models whose Dice lies by so much below that of the first, give or take noise of a hundredth."""
        random = np.random.default_rng(1)
        base = random.uniform(0.6, 0.9, (cases, len(labels)))
        models = [
            make_compared(name, base - offset + random.normal(0, 0.01, base.shape), labels, gate=gate)
            for name, offset, gate in zip(("gated", "ungated", "wider"), offsets, gates, strict=False)
        ]
        return ModelComparison("scans", (0, 1), tuple(models))

    return make


def test_the_conclusion_is_that_the_gate_helped_or_did_harm_or_that_data_cannot_tell(compared):
    assert compared((0, 0.05)).conclusion.startswith(
        "The gate helped here (gated against ungated): gated minus ungated is +"
    )
    assert compared((0.05, 0)).conclusion.startswith("The gate did harm here")
    unknown = compared((0, 0)).conclusion
    assert unknown.startswith("These data cannot tell whether the gate helps: gated minus ungated is")
    for part in ("Dice (95% CI ", "n = 20 cases", "Holm p = "):
        assert part in unknown


def test_the_question_is_turned_round_where_the_first_model_has_no_gate(compared):
    assert compared((0.05, 0), gates=(None, "grid")).conclusion.startswith(
        "The gate helped here (ungated against gated)"
    )


def test_models_that_all_have_gates_are_compared_by_name(compared):
    both = compared((0, 0.05), gates=("grid", "multi"))
    assert both.conclusion.startswith("gated is better than ungated: ")
    assert both.further_conclusions == ()


def test_each_other_model_gets_a_sentence(compared):
    found = compared((0, 0, 0.05))
    assert "cannot tell whether the gate helps" in found.conclusion
    assert [conclusion.split(":")[0] for conclusion in found.further_conclusions] == ["gated is better than wider"]


def test_a_gain_that_as_many_weights_explain_is_qualified_in_the_same_sentence(compared):
    explained = compared((0, 0.05, 0)).conclusion
    assert explained.startswith("The gate helped here")
    assert explained.endswith("; compared with wider instead, these data cannot tell.")
    assert compared((0, 0.05, -0.05)).conclusion.endswith("; compared with wider instead, the opposite holds.")
    assert "compared with" not in compared((0, 0.05, 0.05)).conclusion


def test_the_conclusion_says_when_no_difference_could_have_been_significant(compared):
    assert "With 4 cases no difference could have been significant" in compared((0, 0.1), cases=4).conclusion
    several = compared((0, 0.1, 0.1), cases=6)
    assert "With 6 cases, corrected for 2 comparisons, no difference could have been significant" in several.conclusion
    assert "could have been significant" not in compared((0, 0), cases=20).conclusion


def test_several_labels_add_their_mean_which_the_conclusion_is_about(compared):
    found = compared((0, 0.05), labels=("a", "b"))
    assert found.baseline.row_labels == ("a", "b", ALL_LABELS)
    means = [found.difference("ungated", label).mean for label in ("a", "b")]
    assert found.difference("ungated", ALL_LABELS).mean == pytest.approx(np.mean(means))
    assert "mean Dice" in found.conclusion
    assert f"{found.difference('ungated', ALL_LABELS).mean:+.4f}" in found.conclusion


def test_every_metric_is_its_own_family(compared):
    found = compared((0, 0.02, 0.03), labels=("a", "b"))
    assert len(found.differences) == len(COMPARED) * 2 * 3
    dice = [entry.test for entry in found.differences if entry.metric == "Dice"]
    smallest = min(dice, key=lambda test: test.p)
    assert smallest.holm == pytest.approx(6 * smallest.p)


def test_a_label_that_is_nowhere_counts_nowhere(make_compared):
    values = np.array([[0.8, np.nan], [0.7, np.nan], [0.9, np.nan]])
    models = [make_compared(name, values + shift, ("a", "b")) for name, shift in (("x", 0), ("y", 0.01))]
    found = ModelComparison("scans", (0,), tuple(models))
    assert found.difference("y", "b").cases == 0
    assert found.difference("y", ALL_LABELS).mean == pytest.approx(found.difference("y", "a").mean)
    nothing = [make_compared(name, values[:, 1:], ("b",)) for name in "xy"]
    assert "no case has a label" in ModelComparison("scans", (0,), tuple(nothing)).conclusion


def test_the_median_time_is_reported(make_compared):
    assert make_compared("x", np.full((3, 1), 0.5), ("a",)).median_seconds == 0.5
    assert isnan(make_compared("x", np.zeros((0, 1)), ("a",)).median_seconds)


def test_every_number_is_in_the_file(compared):
    found = compared((0, 0.05), labels=("a", "b"))
    content = json.loads(json.dumps(comparison_to_json(found), allow_nan=False))
    assert content["conclusion"] == found.conclusion
    assert [model["name"] for model in content["models"]] == ["gated", "ungated"]
    first = content["models"][0]
    assert (first["parameters"], first["flops"], first["steps"]) == (1000, 2_000_000_000, {"0": 100})
    assert len(first["seconds"]) == len(first["scores"]["metric_per_case"]) == 20
    assert len(content["differences"]) == len(found.differences)
    dice = next(e for e in content["differences"] if (e["label"], e["metric"]) == (ALL_LABELS, "Dice"))
    assert dice["mean"] == pytest.approx(found.difference("ungated", ALL_LABELS).mean)
    assert {"model", "other", "ci95", "p", "holm", "effect", "cases"} <= dice.keys()
    assert "seed" in content["conventions"]["unit"]
