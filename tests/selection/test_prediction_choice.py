"""Mirroring and folds are kept if they are worth their seconds: hand-made Dice of a few cases."""

from __future__ import annotations

from math import isnan, nan

import pytest

from attunet.config import MeasuredPrediction, PredictionChoice
from attunet.selection.prediction_choice import PredictionScores, case_dice, decide_folds, decide_mirroring, settle

PLAIN = (0.80, 0.82, 0.84, 0.86, 0.88, 0.90)


def scores(dice, *, folds=1, copies=1, seconds=None):
    seconds = seconds or [float(folds * copies)] * len(dice)
    return PredictionScores(folds=folds, copies=copies, dice=dice, seconds=seconds)


def raised(by, dice=PLAIN):
    """Each case raised by about as much: gains that are not all the same."""
    return [value + by * (0.9 if index % 2 else 1.1) for index, value in enumerate(dice)]


@pytest.mark.parametrize(
    ("dice", "kept"),
    [
        (raised(0.003), True),
        (raised(0.0019), False),  # certain, but too little
        (raised(-0.003), False),
        ([value + by for value, by in zip(PLAIN, (0.1, -0.05, 0.06, -0.06, 0.03, -0.02), strict=True)], False),
        (list(PLAIN), False),
    ],
)
def test_mirrored_copies_are_kept_if_they_surely_add_enough(dice, kept):
    choice, reason = decide_mirroring(scores(PLAIN), scores(dice, copies=8))
    assert choice.mirror is kept
    assert choice.folds is None
    assert reason.startswith("on: " if kept else "off: ")
    assert "8 s instead of 1 s a case" in reason
    assert "over 6 cases" in reason


def test_the_table_holds_what_was_measured():
    choice, _ = decide_mirroring(scores(PLAIN, seconds=[1, 1, 9, 1, 1, nan]), scores(raised(0.01), copies=8))
    plain, mirrored = choice.measured
    assert (plain.dice, plain.seconds, plain.cases, plain.gain) == (0.85, 1.0, 6, None)
    assert (mirrored.dice, mirrored.seconds, mirrored.gain) == (0.86, 8.0, 0.01)
    assert 0.009 <= mirrored.low <= 0.01 <= mirrored.high <= 0.011


def test_few_cases_decide_nothing_and_are_shown_all_the_same():
    choice, reason = decide_mirroring(scores(PLAIN[:4]), scores(raised(0.03, PLAIN[:4]), copies=4))
    assert choice.mirror is None
    assert reason.startswith("not decided, so on: fewer than 5 cases; 4 mirrored copies add +0.03")
    assert [row.cases for row in choice.measured] == [4, 4]


def test_a_case_without_annotation_does_not_count():
    choice, _ = decide_mirroring(scores((*PLAIN[:4], nan)), scores((*raised(0.03, PLAIN[:4]), nan), copies=4))
    assert choice.mirror is None


def test_a_plan_without_mirroring_has_one_row():
    choice, reason = decide_mirroring(scores(PLAIN), None)
    assert (choice.mirror, len(choice.measured)) == (None, 1)
    assert "the plan mirrors no axis" in reason


def test_a_false_alarm_costs_what_an_empty_mask_gains():
    assert case_dice([nan, 1.0]) == 1.0
    assert case_dice([0.0, 1.0]) == 0.5
    assert isnan(case_dice([]))


def test_the_fewest_folds_to_which_no_more_add_enough_are_averaged():
    each = [scores(PLAIN), scores(raised(0.001), folds=2), scores(raised(0.004), folds=3)]
    choice, reason = decide_folds([*each, scores(raised(0.005), folds=4)], [0, 2, 3, 7])
    assert choice.folds == (0, 2, 3)
    assert reason.startswith("3 of 4: more than one add +0.0040 Dice")
    assert "all 4 add +0.0010 Dice" in reason
    assert reason.endswith("in 4 s instead of 3 s a case")
    assert [(row.folds, row.measured_on) for row in choice.measured] == [(n, "unseen") for n in (1, 2, 3, 4)]


def test_small_gains_of_each_fold_add_up():
    for each_adds, kept in ((0.0021, 5), (0.0015, 5), (0.0009, 4), (0.0004, 1)):
        each = [scores(raised(each_adds * (folds - 1)), folds=folds) for folds in range(1, 6)]
        assert len(decide_folds(each, range(5))[0].folds) == kept


def test_few_unseen_cases_decide_no_folds():
    choice, reason = decide_folds([scores(PLAIN[:4]), scores(raised(0.1, PLAIN[:4]), folds=2)], [0, 1])
    assert choice.folds is None
    assert "fewer than 5 cases that no fold has seen" in reason
    assert len(choice.measured) == 2


def test_all_folds_have_a_row_without_a_dice_where_no_case_is_unseen():
    choice, _ = decide_mirroring(scores(PLAIN), scores(raised(0.01), copies=8))
    *_, every = settle(choice, 5).measured
    assert every == MeasuredPrediction(folds=5, copies=8, cases=0, measured_on="unseen", seconds=40.0, used=True)
    assert settle(settle(choice, 5), 5) == settle(choice, 5)


def test_a_single_fold_uses_the_row_that_was_decided_on():
    for dice, copies in ((raised(0.01), 8), (PLAIN, 1)):
        choice, _ = decide_mirroring(scores(PLAIN), scores(dice, copies=8))
        assert [row.copies for row in settle(choice, 1).measured if row.used] == [copies]


def test_an_older_file_has_no_choice():
    assert PredictionChoice() == PredictionChoice(mirror=None, folds=None, measured=())
