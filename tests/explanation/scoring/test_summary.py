"""Means, intervals and differences over cases; what does not count is left out, and JSON holds no nan."""

import json
from math import isnan, nan

import numpy as np
import pytest

from attunet.evaluation.bootstrap import interval
from attunet.explanation.scoring.scores import ATTENTION_METRICS, MAP_METRICS
from attunet.explanation.scoring.summary import OTHER_CASES, SHUFFLED, TRAINED, AttentionScores, AttentionSummary

RANDOM = np.random.default_rng(0)
LIFTS = {
    TRAINED: [*RANDOM.normal(4, 0.5, 9), nan],
    SHUFFLED: [*RANDOM.normal(1, 0.1, 9), nan],
    OTHER_CASES: [*RANDOM.normal(2, 0.3, 8), nan, nan],
}


def rows(source, gate="level2"):
    for index, value in enumerate(LIFTS[source]):
        scores = dict.fromkeys(ATTENTION_METRICS, nan) | {"lift": float(value)}
        yield AttentionScores(source, gate, "pancreas", f"case{index}", scores)
        if source != OTHER_CASES:
            yield AttentionScores(source, gate, "", f"case{index}", dict.fromkeys(MAP_METRICS, index / 10))


@pytest.fixture(scope="module")
def summary():
    return AttentionSummary(tuple(row for source in (SHUFFLED, TRAINED, OTHER_CASES) for row in rows(source)))


def test_a_mean_is_over_the_cases_that_count(summary):
    values = summary.values(TRAINED, "level2", "pancreas", "lift")
    assert list(values) == [f"case{index}" for index in range(9)]
    assert summary.mean(TRAINED, "level2", "pancreas", "lift") == pytest.approx(np.mean(LIFTS[TRAINED][:9]))
    assert summary.interval(TRAINED, "level2", "pancreas", "lift") == pytest.approx(interval(LIFTS[TRAINED]))
    assert summary.mean(TRAINED, "level2", "", "entropy") == pytest.approx(0.45)
    assert isnan(summary.mean(TRAINED, "level2", "pancreas", "auroc"))
    assert isnan(summary.mean(TRAINED, "level9", "spleen", "lift"))


def test_differences_are_paired_by_case(summary):
    gaps = np.subtract(LIFTS[TRAINED], LIFTS[OTHER_CASES])
    found = summary.difference(OTHER_CASES, "level2", "pancreas", "lift")
    assert found.cases == 8
    assert found.mean == pytest.approx(np.nanmean(gaps))
    assert (found.low, found.high) == pytest.approx(interval(gaps))


def test_a_table_holds_the_nulls_beside_the_trained_gate(summary):
    assert summary.sources == (TRAINED, SHUFFLED, OTHER_CASES)
    assert (summary.gates, summary.labels, len(summary.cases)) == (("level2",), ("pancreas",), 10)
    (row,) = summary.table("pancreas")
    assert (row.gate, row.label, row.metric) == ("level2", "pancreas", "lift")
    assert row.trained == summary.estimate(TRAINED, "level2", "pancreas", "lift")
    assert list(row.nulls) == list(row.differences) == [SHUFFLED, OTHER_CASES]
    (alone,) = summary.table("", "mean")
    assert alone.trained.cases == 10
    assert isnan(alone.nulls[OTHER_CASES].mean)
    assert summary.finding("level2", "pancreas").startswith("level2 looks at the pancreas: ")


def test_without_nulls_nothing_is_compared():
    summary = AttentionSummary(tuple(rows(TRAINED)))
    (row,) = summary.table("pancreas")
    assert (row.nulls, row.differences) == ({}, {})
    assert "not tested" in summary.finding("level2", "pancreas")


def test_json_has_every_number_and_no_nan(summary):
    values = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    organ = values["gates"]["level2"]["labels"]["pancreas"]
    assert organ["conclusion"] == "looks at"
    assert organ["finding"] == summary.finding("level2", "pancreas")
    assert list(organ["metrics"]) == list(ATTENTION_METRICS)
    gap = summary.difference(SHUFFLED, "level2", "pancreas", "lift")
    assert organ["metrics"]["lift"]["trained - shuffled weights"]["mean"] == pytest.approx(gap.mean)
    assert organ["metrics"]["auroc"]["trained"] == {"mean": None, "low": None, "high": None, "cases": 0}
    assert list(values["gates"]["level2"]["map"]) == list(MAP_METRICS)
    assert len(values["cases"]) == len(summary.scores)
    assert values["cases"][0]["values"].keys() == ATTENTION_METRICS.keys()


def test_nothing_measured_is_an_empty_summary():
    empty = AttentionSummary(())
    assert (empty.gates, empty.labels, empty.sources, empty.table("pancreas")) == ((), (), (), ())
    assert empty.to_json()["gates"] == {}
