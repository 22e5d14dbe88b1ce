"""A conclusion claims what the intervals support, and no more."""

from math import isnan, nan

import pytest

from attunet.evaluation.bootstrap import interval
from attunet.explanation.scoring.conclusions import (
    MIN_CASES_FOR_CLAIM,
    OTHER_CASES,
    SHUFFLED,
    Estimate,
    NullComparison,
    conclusion,
    describe_conclusion,
    estimate,
)

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


ABOVE, AROUND, BELOW = Estimate(2.0, 1.0, 3.0, 12), Estimate(0.1, -0.5, 0.7, 12), Estimate(-0.5, -0.7, -0.3, 12)


def lift(mean, low, high, *, cases=12, shuffled=ABOVE, others=ABOVE, label="pancreas"):
    gaps = {SHUFFLED: shuffled, OTHER_CASES: others}
    gaps = {source: gap for source, gap in gaps.items() if gap}
    nulls = {source: Estimate(mean - gap.mean, nan, nan, gap.cases) for source, gap in gaps.items()}
    return NullComparison("level3", label, "lift", Estimate(mean, low, high, cases), nulls, gaps)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (lift(4.1, 3.2, 5.0), "looks at"),
        (lift(0.4, 0.3, 0.5, shuffled=BELOW, others=BELOW), "looks away"),
        (lift(0.4, 0.3, 0.5, shuffled=BELOW, others=ABOVE), "not beyond a null"),
        (lift(4.1, 3.2, 5.0, others=AROUND), "not beyond a null"),
        (lift(4.1, 3.2, 5.0, shuffled=BELOW), "not beyond a null"),
        (lift(4.1, 3.2, 5.0, shuffled=None), "untested"),
        (lift(4.1, 3.2, 5.0, others=Estimate(2.0, 1.0, 3.0, 4)), "untested"),
        (lift(1.1, 1.06, 1.15), "hardly"),
        (lift(1.02, 1.01, 1.03), "nowhere"),
        (lift(1.0, 0.9, 1.1), "nowhere"),
        (lift(1.8, 0.7, 3.1), "unknown"),
        (lift(4.1, 3.2, 5.0, cases=5), "too few cases"),
        (lift(nan, nan, nan, cases=0), "absent"),
    ],
)
def test_the_conclusion_needs_chance_and_both_nulls_excluded(found, expected):
    assert conclusion(found) == expected
    assert describe_conclusion(found).startswith(("level3", "12 cases do not show whether level3"))


def test_the_sentence_holds_the_numbers():
    assert describe_conclusion(lift(4.1, 3.2, 5.0)) == (
        "level3 looks at the pancreas: 4.1 times as much as chance (3.2 to 5.0); "
        "with shuffled weights 2.1, with other cases' maps 2.1"
    )


def test_the_sentence_names_the_null_that_is_not_beaten():
    found = describe_conclusion(lift(4.1, 3.2, 5.0, others=AROUND))
    assert found == (
        "level3 puts 4.1 times as much attention on the pancreas as chance (3.2 to 5.0), which is not shown to be more "
        "than with other cases' maps (4.0); with shuffled weights 2.1"
    )
    assert "less than with shuffled weights" in describe_conclusion(lift(0.4, 0.3, 0.5, shuffled=AROUND, others=BELOW))


def test_few_cases_are_called_few():
    assert "in 1 case, too few" in describe_conclusion(
        lift(4.1, nan, nan, cases=1, shuffled=None, others=None, label="label_7")
    )
    assert "12 cases do not show whether" in describe_conclusion(lift(1.8, 0.7, 3.1))
    assert "not tested against shuffled weights and other cases' maps" in describe_conclusion(
        lift(4.1, 3.2, 5.0, shuffled=None, others=None)
    )


def test_json_holds_no_nan():
    values = lift(nan, nan, nan, cases=0).to_json()
    assert values["trained"] == {"mean": None, "low": None, "high": None, "cases": 0}
    assert set(values) == {"trained", SHUFFLED, OTHER_CASES, f"trained - {SHUFFLED}", f"trained - {OTHER_CASES}"}
