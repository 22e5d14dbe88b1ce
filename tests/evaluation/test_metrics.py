"""The table of metrics: complete, and read by everything that shows metrics."""

import numpy as np
import pytest

from attunet.evaluation.metrics import COMPARED, METRICS, TABULATED, MaskPair, MetricSpec
from attunet.evaluation.overlap import count
from attunet.evaluation.scores import CaseScores, score_case
from attunet.evaluation.summary import summarize


def test_every_metric_is_computed_from_counts_or_from_masks():
    for spec in METRICS.values():
        assert (spec.of_counts is None) != (spec.of_masks is None), spec.name
        assert spec.description
    assert TABULATED[0].name == COMPARED[0].name == "Dice"


def test_a_column_shows_its_unit():
    columns = {spec.name: spec.column for spec in TABULATED}
    assert columns["Dice"] == "Dice"
    assert columns["HD95"] == "HD95 mm"
    assert columns["VolumeErrorMl"] == "Volume error ml"


def test_surface_distances_are_computed_once(monkeypatch):
    calls = []

    def measure(*masks):
        calls.append(masks)
        return (1.0, 2.0)

    monkeypatch.setattr("attunet.evaluation.metrics.surface_scores", measure)
    mask = np.ones((2, 2, 2), bool)
    pair = MaskPair(mask, mask, (1.0, 1.0, 1.0), count(mask, mask))
    assert (pair.surface, pair.surface, len(calls)) == ((1.0, 2.0), (1.0, 2.0), 1)


@pytest.fixture
def added(monkeypatch):
    """A metric that is only in the table."""
    spec = MetricSpec(name="Voxels", description="voxels of both", of_masks=lambda pair: float(pair.reference.sum()))
    monkeypatch.setitem(METRICS, "Voxels", spec)
    return spec


def test_a_new_row_is_scored_summarised_and_written(added):
    mask = np.ones((2, 2, 2), np.uint8)
    summary = summarize([CaseScores("a", score_case(mask, mask, {"one": 1}, (1.0, 1.0, 1.0)))], {"one": 1})
    assert summary.mean("one", "Voxels") == 8.0
    content = summary.to_dict()
    assert content["mean"]["1"]["Voxels"] == 8.0
    assert content["metrics"]["Voxels"] == added.description
