from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from attunet.errors import GeometryError
from attunet.evaluation.overlap import count, dice, iou, precision, recall, volume_error

SPACING = (1.0, 2.0, 5.0)
masks = arrays(bool, (4, 5, 3))


def mask(*voxels: tuple[int, int, int]) -> np.ndarray:
    array = np.zeros((4, 5, 3), dtype=bool)
    for voxel in voxels:
        array[voxel] = True
    return array


def test_known_overlap() -> None:
    reference = mask((0, 0, 0), (0, 1, 0), (0, 2, 0))
    prediction = mask((0, 1, 0), (0, 2, 0), (1, 0, 0), (1, 1, 0))
    assert dice(reference, prediction) == pytest.approx(4 / 7)
    assert iou(reference, prediction) == pytest.approx(2 / 5)
    assert precision(reference, prediction) == pytest.approx(2 / 4)
    assert recall(reference, prediction) == pytest.approx(2 / 3)
    error = volume_error(reference, prediction, SPACING)
    assert error.ml == pytest.approx(0.01)
    assert error.relative == pytest.approx(1 / 3)


def test_both_empty_is_nan() -> None:
    counts = count(mask(), mask())
    assert counts.both_empty
    assert not counts.one_empty
    assert all(isnan(value) for value in (counts.dice, counts.iou, counts.precision, counts.recall))
    assert all(isnan(value) for value in counts.volume_error(SPACING))


@pytest.mark.parametrize(
    ("reference", "prediction", "relative"), [(mask((0, 0, 0)), mask(), -1.0), (mask(), mask((0, 0, 0)), 1.0)]
)
def test_exactly_one_empty_is_the_worst(reference: np.ndarray, prediction: np.ndarray, relative: float) -> None:
    counts = count(reference, prediction)
    assert counts.one_empty
    assert (counts.dice, counts.iou, counts.precision, counts.recall) == (0, 0, 0, 0)
    assert counts.volume_error(SPACING).relative == relative


@given(reference=masks, prediction=masks)
@settings(max_examples=50, deadline=None)
def test_counts_cover_the_image_and_scores_stay_in_bounds(reference: np.ndarray, prediction: np.ndarray) -> None:
    counts = count(reference, prediction)
    assert counts.tp + counts.fp + counts.fn + counts.tn == reference.size
    assert counts.n_ref == reference.sum()
    assert counts.n_pred == prediction.sum()
    for value in (counts.dice, counts.iou, counts.precision, counts.recall):
        assert isnan(value) or 0 <= value <= 1
    if not counts.both_empty:
        assert counts.dice == pytest.approx(2 * counts.iou / (1 + counts.iou))
        assert counts.dice == pytest.approx(dice(prediction, reference))
        assert counts.precision == pytest.approx(recall(prediction, reference))


def test_other_shape_is_refused() -> None:
    with pytest.raises(GeometryError, match=r"\(2, 2, 2\)"):
        dice(mask(), np.zeros((2, 2, 2), dtype=bool))
