"""Figures of a comparison: every label and model has its row, and many labels do not make a poster."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.evaluation.comparison import ALL_LABELS, ModelComparison
from attunet.report.comparison_figures import MAX_LABELS, difference_forest, model_boxes, shown_labels
from attunet.report.theme import png


@pytest.fixture
def compared(make_compared):
    def make(labels, shifts=(0.0, 0.05), cases=8):
        dice = np.random.default_rng(0).uniform(0.5, 0.9, (cases, len(labels)))
        drops = np.linspace(0.0, 1.0, len(labels))
        models = (make_compared(f"model{shift}", dice - shift * drops, labels) for shift in shifts)
        return ModelComparison("scans", (0,), tuple(models))

    return make


def test_a_box_for_each_label_and_model_and_a_point_for_each_case(compared):
    found = compared(("a", "b"), (0.0, 0.05, 0.1))
    axes = model_boxes(found, shown_labels(found)).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [len(points.get_offsets()) for points in axes.collections] == [8] * 6
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["model0.0", "model0.05", "model0.1"]


def test_a_difference_is_filled_only_where_it_is_significant(compared):
    found = compared(("a", "b"))
    axes = difference_forest(found, shown_labels(found)).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", ALL_LABELS]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [point.get_markerfacecolor() == "white" for point in points] == [True, False, False]
    low, high = axes.get_xlim()
    assert low == pytest.approx(-high)


def test_of_many_labels_those_that_differ_most_are_drawn(compared):
    labels = tuple(f"organ{index}" for index in range(40))
    found = compared(labels)
    assert shown_labels(found) == (*labels[-MAX_LABELS:], ALL_LABELS)
    assert model_boxes(found, shown_labels(found)).get_figheight() < 15


def test_a_label_without_scores_has_an_empty_row(make_compared):
    models = tuple(make_compared(name, np.full((2, 1), np.nan), ("a",)) for name in "xy")
    found = ModelComparison("none", (0,), models)
    for draw in (model_boxes, difference_forest):
        assert png(draw(found, shown_labels(found)))
