"""Volumes of masks and references, from the scores of cases alone."""

from math import isnan

import numpy as np
import pytest

from attunet.evaluation.overlap import Counts
from attunet.evaluation.scores import CaseScores, LabelScores, score_case
from attunet.evaluation.volumes import volume_pairs


def scored(predicted, reference, voxel_ml=0.5, label="organ"):
    shared = min(predicted, reference)
    counts = Counts(tp=shared, fp=predicted - shared, fn=reference - shared, tn=10**6)
    measured = {} if counts.both_empty else {"VolumeErrorMl": (predicted - reference) * voxel_ml}
    return CaseScores("case", {label: LabelScores(counts, measured)})


def test_volumes_are_those_of_the_masks():
    """Voxels of 2 x 3 x 5 mm; 4 and 6 of them are predicted, 2 and 6 are true."""
    reference, prediction = np.zeros((2, 1, 10, 1), np.uint8)
    reference[0, :2], reference[0, 4:10], prediction[0, :4], prediction[0, 4:10] = 1, 2, 1, 2
    scores = score_case(reference, prediction, {"a": 1, "b": 2, "c": 3}, (2.0, 3.0, 5.0))
    pairs = volume_pairs([CaseScores("case", scores)], ["a", "b", "c"])
    assert pairs["a"] == [(0, pytest.approx(0.12), pytest.approx(0.06))]
    assert pairs["b"] == [(0, pytest.approx(0.18), pytest.approx(0.18))]
    assert pairs["c"] == [(0, 0.0, 0.0)]


def test_each_case_has_its_own_voxels_and_exact_ones_those_of_others():
    pairs = volume_pairs([scored(10, 8), scored(10, 8, voxel_ml=2.0), scored(6, 6), scored(0, 4)], ["organ"])["organ"]
    assert pairs == [(0, 5.0, 4.0), (1, 20.0, 16.0), (2, 3.0, 3.0), (3, 0.0, 2.0)]


def test_a_label_that_is_not_annotated_has_no_volume():
    pairs = volume_pairs([scored(10, 8), scored(4, 3, label="other")], ["organ", "other"])
    assert [pair.row for pair in pairs["organ"]] == [0]
    assert [pair.row for pair in pairs["other"]] == [1]


def test_without_any_error_volumes_are_unknown():
    (pair,) = volume_pairs([scored(6, 6)], ["organ"])["organ"]
    assert isnan(pair.predicted)
