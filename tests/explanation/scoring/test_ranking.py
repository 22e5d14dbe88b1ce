"""Ranks agree with scipy and with counting by hand; rounding errors are no ranks."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from attunet.explanation.scoring.ranking import order_keys, rank_map, separation


def ranking(values, organ):
    keys = order_keys(np.asarray(values, np.float32))
    return separation(np.sort(keys), keys[np.asarray(organ)])


@st.composite
def voxels(draw):
    """Values with many ties, and an organ that is neither empty nor all."""
    size = draw(st.integers(2, 30))
    values = draw(st.lists(st.integers(0, 6), min_size=size, max_size=size))
    organ = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda o: any(o) and not all(o)))
    return np.array(values) / 6, np.array(organ)


@given(voxels())
def test_the_area_is_mann_whitneys(found):
    values, organ = found
    u = mannwhitneyu(values[organ], values[~organ]).statistic
    assert ranking(values, organ)[0] == pytest.approx(u / (organ.sum() * (~organ).sum()))


@given(voxels())
def test_the_precision_is_the_sum_over_thresholds(found):
    values, organ = found
    expected, before = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        chosen = values >= threshold
        recall = organ[chosen].sum() / organ.sum()
        expected += (recall - before) * organ[chosen].mean()
        before = recall
    assert ranking(values, organ)[1] == pytest.approx(expected)


@given(voxels())
def test_only_the_order_of_the_values_matters(found):
    values, organ = found
    assert ranking(values**3 * 0.5 + 0.1, organ) == pytest.approx(ranking(values, organ))
    area, _ = ranking(values, organ)
    assert ranking(1 - values, organ)[0] == pytest.approx(1 - area)


def test_rounding_errors_are_no_ranks():
    organ = np.arange(1000) < 300
    plateau = np.float32(1) - np.where(organ, 0, 3e-7).astype(np.float32)
    assert ranking(plateau, organ) == pytest.approx((0.5, 0.3))
    assert rank_map(plateau.reshape(10, 10, 10)).peak_voxels == 1000
    tiny = np.where(organ, 2e-7, 1e-7)
    assert ranking(tiny, organ) == (1.0, 1.0), "small values are told apart like large ones"


def test_without_two_sides_there_is_no_area():
    area, precision = ranking([0.2, 0.4], [True, True])
    assert isnan(area)
    assert precision == 1
    assert all(map(isnan, ranking([0.2, 0.4], [False, False])))


def test_minus_zero_is_zero():
    assert len(set(order_keys(np.array([0.0, -0.0], np.float32)))) == 1


def test_a_vast_plateau_is_sampled():
    ranked = rank_map(np.full((50, 40, 30), 0.25, np.float32))
    assert ranked.peak_voxels == 60000
    assert len(ranked.places) == 10000
    assert ranked.places.mean(axis=0) == pytest.approx([24.5, 19.5, 14.5], abs=0.5)
