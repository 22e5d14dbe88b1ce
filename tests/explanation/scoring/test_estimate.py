from math import isnan, nan

import pytest

from attunet.evaluation.bootstrap import interval
from attunet.explanation.scoring.estimate import MIN_CASES_FOR_CLAIM, estimate

VALUES = {(f"case{index}", "organ"): -0.1 - 0.01 * index for index in range(6)}


def test_one_label_is_the_mean_with_its_bootstrap_interval():
    found = estimate(VALUES)
    assert found.mean == pytest.approx(-0.125)
    assert (found.low, found.high) == pytest.approx(interval(list(VALUES.values())))
    assert found.cases == 6
    assert found.excludes_zero
    assert not found.within(0.1)
    assert found.within(0.2)


def test_labels_weigh_alike_however_often_they_occur():
    values = {("a", "liver"): 1.0, ("b", "liver"): 1.0, ("c", "liver"): nan, ("c", "tumour"): 0.0}
    found = estimate(values)
    assert found.mean == 0.5
    assert found.cases == 3


def test_few_cases_make_nothing_sure():
    few = estimate(dict(list(VALUES.items())[: MIN_CASES_FOR_CLAIM - 1]))
    assert few.high < 0
    assert not few.excludes_zero
    assert not few.within(1.0)


def test_nothing_is_nan_and_null():
    found = estimate({("a", "liver"): nan})
    assert isnan(found.mean)
    assert found.to_json() == {"mean": None, "low": None, "high": None, "cases": 0}
    assert str(estimate({("a", "liver"): -0.5})) == "-0.500"
