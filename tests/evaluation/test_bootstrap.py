"""Intervals agree with scipy's, cover what they should, and say nothing where nothing is known."""

from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, spearmanr

from attunet.evaluation.bootstrap import correlation_interval, interval, means_interval

SCORES = np.random.default_rng(0).beta(8, 2, 40)


def test_the_mean_has_the_interval_of_scipy():
    expected = bootstrap((SCORES,), np.mean, n_resamples=2000, method="percentile", rng=0).confidence_interval
    assert interval(SCORES) == pytest.approx((expected.low, expected.high))


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12))
@settings(max_examples=40)
def test_the_interval_lies_within_the_values_and_narrows_with_the_level(values):
    low, high = interval(values, resamples=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    inner = interval(values, level=0.5, resamples=200)
    assert low <= inner[0] <= inner[1] <= high


def test_the_same_seed_gives_the_same_interval():
    assert interval(SCORES, seed=3) == interval(SCORES, seed=3) != interval(SCORES, seed=4)


@pytest.mark.parametrize("values", [[], [0.5], [nan, 0.5]])
def test_fewer_than_two_values_have_no_interval(values):
    assert all(map(isnan, interval(values)))


def test_about_95_of_100_intervals_hold_the_truth():
    random = np.random.default_rng(1)
    ends = [interval(random.normal(0, 1, 50), resamples=400) for _ in range(200)]
    assert 0.9 <= np.mean([low <= 0 <= high for low, high in ends]) <= 0.98


def test_rows_are_drawn_whole_and_gaps_are_left_out():
    single = np.where(SCORES > 0.9, nan, SCORES)
    table = np.stack([single, single], axis=1)
    assert means_interval(table) == pytest.approx(interval(single))
    opposite = np.stack([SCORES, 1 - SCORES], axis=1)
    assert means_interval(opposite) == pytest.approx((0.5, 0.5))
    some = np.stack([SCORES, np.where(np.arange(40) < 3, SCORES - 0.5, nan)], axis=1)
    low, high = means_interval(some)
    assert low < (SCORES.mean() + SCORES[:3].mean() - 0.5) / 2 < high


def test_a_correlation_is_held_by_its_interval():
    noisy = SCORES + np.random.default_rng(2).normal(0, 0.1, 40)
    low, high = correlation_interval(SCORES, noisy)
    assert low < spearmanr(SCORES, noisy).statistic < high
    assert correlation_interval(SCORES, SCORES**3) == pytest.approx((1, 1))
    assert correlation_interval([*SCORES, nan], [*noisy, 1.0]) == (low, high)


@pytest.mark.parametrize("pair", [([1, 2], [2, 1]), ([1, 1, 1], [1, 2, 3]), ([], [])])
def test_a_correlation_of_nothing_has_no_interval(pair):
    assert all(map(isnan, correlation_interval(*pair)))
