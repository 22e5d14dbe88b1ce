"""The skeleton is the textbook's, and its recall distinguishes an interruption from a thin line."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_cdt

from attunet.errors import GeometryError
from attunet.evaluation.skeleton import skeleton, skeleton_recall

masks = array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7).flatmap(lambda shape: arrays(bool, shape))


def by_openings(mask):
    """Lantuéjoul's formula, step by step."""
    found, eroded = np.zeros_like(mask), mask
    while eroded.any():
        smaller = binary_erosion(eroded, border_value=1)
        found |= eroded & ~binary_dilation(smaller)
        if (smaller == eroded).all():
            return found | eroded
        eroded = smaller
    return found


@given(masks)
@settings(max_examples=100)
def test_it_is_the_union_of_what_openings_remove(mask):
    assert np.array_equal(skeleton(mask), by_openings(mask))


@given(masks)
@settings(max_examples=50)
def test_it_lies_inside_and_holds_the_mask_together_with_its_distances(mask):
    middle = skeleton(mask)
    assert not (middle & ~mask).any()
    if mask.all() or not mask.any():
        return
    distance = distance_transform_cdt(mask, metric="taxicab")
    rebuilt = np.zeros_like(mask)
    for place in np.argwhere(middle):
        away = sum(abs(axis - at) for axis, at in zip(np.indices(mask.shape), place, strict=True))
        rebuilt |= away < distance[tuple(place)]
    assert np.array_equal(rebuilt, mask)


@pytest.fixture
def line():
    """A membrane, five pixels wide, that runs through the picture."""
    mask = np.zeros((40, 60, 1), bool)
    mask[18:23] = True
    return mask


def test_a_narrow_prediction_is_found_and_an_interrupted_one_is_not(line):
    narrow = np.zeros_like(line)
    narrow[20] = True
    assert skeleton_recall(line, narrow) == 1.0
    interrupted = line.copy()
    interrupted[:, 20:35] = False
    assert skeleton_recall(line, interrupted) == pytest.approx(45 / 60)
    beside = np.roll(line, 3, axis=0)
    assert skeleton_recall(line, beside) == 0.0


@given(st.integers(1, 8))
def test_a_margin_changes_nothing(margin):
    ball = sum((axis - 5) ** 2 for axis in np.indices((11, 11, 11))) < 20
    half = ball.copy()
    half[5:] = False
    assert skeleton_recall(np.pad(ball, margin), np.pad(half, margin)) == skeleton_recall(ball, half)


def test_empty_masks_follow_the_rule(line):
    nothing = np.zeros_like(line)
    assert isnan(skeleton_recall(nothing, nothing))
    assert skeleton_recall(line, nothing) == skeleton_recall(nothing, line) == 0.0


def test_other_shape_is_refused(line):
    with pytest.raises(GeometryError):
        skeleton_recall(line, line[1:])
