"""Paired tests against scipy and against values computed by hand; which cases are left out."""

from __future__ import annotations

from itertools import product
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from attunet.evaluation.paired import PairedGain, PairedTest, holm, paired_test, with_holm


def named(values):
    return {f"case{index}": value for index, value in enumerate(values)}


def result(*, p=0.01, low=0.1, high=0.2, cases=10, zeros=0):
    return PairedTest(cases, zeros, mean=(low + high) / 2, low=low, high=high, effect=0.5, p=p, holm=p)


def test_the_numbers_are_those_of_scipy_and_of_the_bootstrap():
    random = np.random.default_rng(0)
    second = random.uniform(0.5, 0.8, 30)
    first = second + random.normal(0.03, 0.04, 30)
    test = paired_test(named(first), named(second))
    assert (test.cases, test.zeros) == (30, 0)
    assert test.mean == pytest.approx((first - second).mean())
    assert test.low < test.mean < test.high
    assert test.p == test.holm == pytest.approx(wilcoxon(first, second).pvalue)
    other_way = paired_test(named(second), named(first))
    assert (other_way.mean, other_way.effect, other_way.p) == pytest.approx((-test.mean, -test.effect, test.p))


@pytest.mark.parametrize("cases", [1, 2, 5, 9, 30, 50, 51, 120])
def test_the_p_value_is_scipys_exact_or_approximate_one(cases):
    differences = np.random.default_rng(cases).normal(0.2, 1, cases)
    expected = wilcoxon(differences, method="exact" if cases <= 50 else "asymptotic").pvalue
    assert paired_test(named(differences), named(np.zeros(cases))).p == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_where_differences_are_equal_the_p_value_is_close_to_that_of_all_signs(seed):
    differences = np.random.default_rng(seed).choice([-2.0, -1.0, 1.0, 2.0, 3.0], 16)
    ranks = rankdata(np.abs(differences))
    sums = (np.array(list(product((0, 1), repeat=16))) * ranks).sum(axis=1)
    found = ((differences > 0) * ranks).sum()
    exact = min(1.0, 2 * min((sums <= found).mean(), (sums >= found).mean()))
    assert paired_test(named(differences), named(np.zeros(16))).p == pytest.approx(exact, abs=0.03)


def test_the_effect_is_the_share_of_ranks_for_minus_against():
    test = paired_test(named([0.1, 0.2, 0.3, 0.0]), named([0.0, 0.0, 0.0, 0.4]))
    assert test.effect == pytest.approx((1 + 2 + 3 - 4) / 10)
    assert paired_test(named([2, 2, 2]), named([1, 1, 1])).effect == 1


def test_equal_cases_leave_the_ranks_but_not_the_mean():
    test = paired_test(named([0.6, 0.5, 0.5]), named([0.5, 0.5, 0.5]))
    assert (test.cases, test.zeros, test.effect, test.p) == (3, 2, 1, 1)
    assert test.mean == pytest.approx(0.1 / 3)
    same = paired_test(named([0.5] * 9), named([0.5] * 9))
    assert (same.mean, same.low, same.high, same.effect, same.p) == (0, 0, 0, 0, 1)
    assert not same.decided


def test_only_cases_that_both_know_count():
    test = paired_test({"a": 0.9, "b": nan, "c": 0.5, "d": 0.1}, {"a": 0.8, "b": 0.3, "c": nan, "e": 0.2})
    assert test.cases == 1
    assert test.mean == pytest.approx(0.1)
    assert isnan(test.low)
    assert not test.decided
    nothing = paired_test({"a": nan}, {"a": 0.5})
    assert nothing.cases == 0
    assert isnan(nothing.p)
    assert not nothing.decided


def test_holm_corrects_step_by_step():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([nan, 0.02, 0.8])
    assert isnan(corrected[0])
    assert corrected[1:] == pytest.approx([0.04, 0.8])
    assert holm([]) == []
    assert [test.holm for test in with_holm([result(p=0.01), result(p=0.04)])] == pytest.approx([0.02, 0.04])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_never_makes_smaller(p_values):
    corrected = holm(p_values)
    assert all(p <= after <= 1 for p, after in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


def test_decided_needs_both_interval_and_p():
    assert result().decided
    assert result(low=-0.3, high=-0.1).decided
    assert not result(low=-0.1).decided
    assert not result(p=0.05).decided


def test_few_cases_bound_the_p_value():
    assert result(cases=5).smallest_p == 0.0625
    assert result(cases=8, zeros=3).smallest_p == 0.0625
    assert result(cases=0).smallest_p == 1


def test_a_gain_leaves_out_pairs_with_nan_and_knows_no_interval_of_one():
    gain = PairedGain.of([0.5, 0.6, nan, 0.7], [0.6, 0.8, 0.9, nan])
    assert (gain.mean, gain.cases) == (pytest.approx(0.15), 2)
    assert 0.099 < gain.low <= gain.high < 0.201
    assert gain.text.startswith("+0.1500 Dice (95% interval +0.1")
    one = PairedGain.of([0.5], [0.6])
    assert isnan(one.low)
    assert one.text == "+0.1000 Dice over 1 cases"
    assert PairedGain.of([], []).cases == 0
