"""Taps: shares that sum to one, in parts the same as whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.taps import gather, linear_taps

SIZES = st.integers(1, 40)


@given(old=SIZES, new=SIZES, antialias=st.booleans())
def test_shares_are_positive_sum_to_one_and_keep_straight_lines_inside(old, new, antialias):
    taps = linear_taps(old, new, antialias=antialias)
    assert len(taps) == new
    assert taps.index.min() >= 0
    assert taps.index.max() < old
    assert taps.weights.min() >= 0
    np.testing.assert_allclose(taps.weights.sum(axis=0), 1, rtol=1e-6)
    line = (taps.weights * taps.index).sum(axis=0)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    reach = max(old / new, 1)
    inside = (centres >= reach - 0.5) & (centres <= old - 0.5 - reach)
    np.testing.assert_allclose(line[inside], centres[inside], atol=0.51 if antialias and new < old else 1e-4)


def test_known_shares():
    taps = linear_taps(2, 4)
    np.testing.assert_array_equal(taps.index[0], [0, 0, 0, 1])
    np.testing.assert_allclose(taps.weights, [[1, 0.75, 0.25, 1], [0, 0.25, 0.75, 0]])


@given(old=SIZES, new=SIZES)
def test_a_tap_without_weight_points_where_the_weight_is(old, new):
    taps = linear_taps(old, new)
    single = taps.weights[1] == 0
    np.testing.assert_array_equal(taps.index[1, single], taps.index[0, single])


@given(old=SIZES, new=SIZES, antialias=st.booleans(), data=st.data())
def test_a_part_makes_the_same_samples_from_what_it_reaches(old, new, antialias, data):
    start = data.draw(st.integers(0, new - 1))
    targets = slice(start, data.draw(st.integers(start + 1, new)))
    values = np.random.default_rng(old).normal(size=old)
    taps = linear_taps(old, new, antialias=antialias)
    sources = taps.reach(targets)
    part = taps.part(targets, sources)
    whole = (values[taps.index] * taps.weights).sum(axis=0)
    found = (values[sources][part.index] * part.weights).sum(axis=0)
    np.testing.assert_allclose(found, whole[targets], rtol=1e-12, atol=1e-15)


def test_what_lies_outside_a_part_counts_as_nothing():
    part = linear_taps(4, 8).part(slice(0, 8), slice(1, 2))
    np.testing.assert_allclose(
        (np.ones(1)[part.index] * part.weights).sum(axis=0), [0, 0.25, 0.75, 0.75, 0.25, 0, 0, 0]
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@given(shape=st.tuples(*[st.integers(1, 6)] * 3), data=st.data())
def test_gathering_is_taking(axis, shape, data):
    array = np.random.default_rng(0).integers(0, 99, shape).astype(np.uint8)
    index = np.array(data.draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=9)))
    result = gather(array, index, axis)
    np.testing.assert_array_equal(result, np.take(array, index, axis=axis))
    assert result.flags.c_contiguous
