"""The fingerprint in a few numbers."""

from __future__ import annotations

import pytest

from attunet.planning.mirroring import Mirroring
from attunet.planning.summary import describe_labels, summarize

NOTHING = Mirroring((), (), (("a_left", "a_right"),), {"1": "a, b"}, "")


def test_what_the_planner_saw(make_fingerprint):
    found = summarize(make_fingerprint(channels=2, classes=3), NOTHING)
    assert (found.cases, found.channels, found.median_shape) == (2, 2, (64, 60, 40))
    assert found.label_voxels == {"background": 180, "label_1": 20, "label_2": 20}
    assert found.label_cases == {"label_1": 2, "label_2": 2}
    assert (found.lateral, found.fixed_order) == (NOTHING.lateral, NOTHING.fixed_order)


def test_intensities_by_channel(make_fingerprint):
    found = summarize(make_fingerprint(channels=2), NOTHING).intensities
    assert len(found) == 2
    lower, mean, deviation, upper = found[0]
    assert lower < mean < upper
    assert mean == pytest.approx(100, abs=5)
    assert deviation == pytest.approx(20, abs=3)


def test_labels_with_their_cases_and_sizes(place_labels):
    text = describe_labels(place_labels({"liver": [(0, 0, 0)] * 3, "tumour": [None, None, (0, 0, 0)]}))
    assert text == "found in 3 cases, median size in brackets: liver in 3 (0.01 ml), tumour in 1 (0.01 ml)"


def test_pictures_have_pixels(place_labels):
    assert "cell in 2 (10 pixels)" in describe_labels(place_labels({"cell": [(0, 0, 0)] * 2}, modality="image"))


def test_many_labels_are_not_all_listed(make_fingerprint):
    text = describe_labels(make_fingerprint(classes=100))
    assert text.endswith("label_8 in 2 (0.01 ml) and 91 more")


def test_a_region_counts_all_its_values(make_fingerprint):
    facts = make_fingerprint(classes=3, regions={"label_1": (1, 2), "label_2": (2,)})
    assert summarize(facts, NOTHING).label_voxels == {"background": 180, "label_1": 40, "label_2": 20}
