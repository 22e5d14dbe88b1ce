"""Prediction intervals in words: what was measured, where it falls short, and why there is none."""

import pytest

from attunet.config import Postprocessing, PredictionInterval, interval_text
from attunet.inference.intervals import describe_interval, interval_reasons, rounded_interval, rounded_intervals


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (1480.2, 1390.4, 1570.0, "1,480 (1,390–1,570, 90%)"),
        (999.96, 950.0, 1020.0, "999.96 (950.00–1,020, 90%)"),
        (3.256, 0.0, 4.1, "3.26 (0.00–4.10, 90%)"),
        (0.0021, 0.0018, 0.0031, "0.0021 (0.0018–0.0031, 90%)"),
    ],
)
def test_a_value_is_written_with_its_interval(value, low, high, text):
    assert interval_text(value, PredictionInterval(low, high, 0.9), 2) == text


def test_a_value_without_an_interval_stands_alone():
    assert interval_text(12.345, None, 2) == "12.35"


def test_an_interval_in_words(make_interval):
    assert describe_interval(make_interval(folds=0.88), "ml") == (
        "90% from 40 held-out cases: 1.800 to 2.200 for 2.000 ml; mean width 0.600; contains 90% of them leaving out "
        "each case (small 90%, medium 85%, large 95%), 88% leaving out each fold"
    )


@pytest.mark.parametrize(
    ("measured", "where"),
    [
        ({"folds": 0.8}, "leaving out each fold"),
        ({"coverage": 0.8}, "leaving out each case"),
        ({"thirds": (0.75, 0.9, 1.0)}, "among small values"),
        (
            {"thirds": (1.0, 0.7, 0.7), "folds": 0.8},
            "leaving out each fold, among medium values and among large values",
        ),
    ],
)
def test_what_falls_short_of_the_level_is_said(measured, where, make_interval):
    assert describe_interval(make_interval(**measured), "ml").endswith(f"; short of 90% {where}")


def test_a_little_less_than_the_level_is_chance(make_interval):
    """Of 40 cases, 33 would be inside an interval of 90% too seldom to be chance, 34 (85%) not."""
    assert "short" not in describe_interval(make_interval(coverage=0.85, folds=0.85), "ml")
    assert "short" in describe_interval(make_interval(coverage=0.82), "ml")


def test_every_label_has_an_interval_or_a_reason(make_interval, make_plan_of):
    plan = make_plan_of()
    first, *others = plan.foreground
    refused = {f"volume interval {others[0]}": "none: 7 held-out cases, at least 20 are needed"}
    reasons = interval_reasons(Postprocessing(volume_intervals={first: make_interval()}, reasons=refused), plan)
    assert list(reasons) == [*plan.foreground, "predicted Dice"]
    assert reasons[first].startswith("90% from 40 held-out cases")
    assert reasons[others[0]] == "none: 7 held-out cases, at least 20 are needed"
    assert (
        reasons["predicted Dice"]
        == "none: there are no held-out cases; attunet evaluate --cross-validation measures them"
    )


def test_small_ends_keep_their_digits():
    small = PredictionInterval(0.00012345, 123.45678, 0.9)
    assert rounded_interval(small, 3) == PredictionInterval(0.000123, 123.457, 0.9)
    assert rounded_intervals({"a": small, "b": None}, 3) == {"a": rounded_interval(small, 3), "b": None}
