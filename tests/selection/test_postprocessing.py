import numpy as np
import pytest

from attunet.config import ComponentRules
from attunet.selection.connected_components import connected_components
from attunet.selection.postprocessing import accepted_rules, decide_rules, describe_rules, rules_reasons


@pytest.fixture(scope="module")
def plan(make_plan_of):
    return make_plan_of(labels={"background": 0, "a": 1})


def cases_of(plan, paint, count=8):
    """A cube in every case; `paint` may spoil the prediction, given the case's number."""
    cases = []
    for index in range(count):
        truth = np.zeros((20, 20, 10), np.uint8)
        truth[4:12, 4:12, 2:8] = 1
        predicted = truth.copy()
        paint(predicted, truth, index)
        cases.append(connected_components(predicted, truth, plan, {"a": 1}, (1.0, 1.0, 1.0)))
    return cases


def false_alarm(predicted, truth, index):
    predicted[15 : 17 + index % 3, 15:18, 4:6] = 1


def test_false_alarms_are_removed(plan):
    trials = decide_rules(cases_of(plan, false_alarm), ["a"])
    how = accepted_rules(trials)["a"]
    assert how.largest_component or how.minimum_ml > 0
    assert trials[0].accepted
    assert trials[0].after == pytest.approx(1.0)
    assert "mean Dice 0.9" in trials[0].reason
    assert not trials[-1].accepted


def test_holes_are_filled(plan):
    def hollow(predicted, truth, index):
        predicted[7:9, 7:9, 4:6] = 0

    assert accepted_rules(decide_rules(cases_of(plan, hollow), ["a"])) == {"a": ComponentRules(fill_holes=True)}


def test_both_are_found_one_after_the_other(plan):
    def both(predicted, truth, index):
        predicted[7:9, 7:9, 4:6] = 0
        false_alarm(predicted, truth, index)

    how = accepted_rules(decide_rules(cases_of(plan, both), ["a"]))["a"]
    assert how.fill_holes
    assert how.largest_component or how.minimum_ml > 0


def test_what_is_right_is_left_alone(plan):
    trials = decide_rules(cases_of(plan, lambda *_: None), ["a"])
    assert accepted_rules(trials) == {}


def test_what_helps_some_and_harms_others_is_not_accepted(plan):
    def two_parts(predicted, truth, index):
        """The second part is true in every other case, so that keeping the largest is a gamble."""
        predicted[15:19, 15:19, 2:8] = 1
        if index % 2:
            truth[15:19, 15:19, 2:8] = 1

    trials = decide_rules(cases_of(plan, two_parts), ["a"])
    assert accepted_rules(trials) == {}
    assert "interval" in trials[-1].reason


def test_a_false_alarm_in_an_empty_case_counts(plan):
    def empty(predicted, truth, index):
        predicted[:], truth[:] = 0, 0
        predicted[3, 3, 3] = 1

    trials = decide_rules(cases_of(plan, empty), ["a"])
    assert trials[0].before == 0.0
    assert trials[0].after == 1.0
    assert accepted_rules(trials)["a"].minimum_ml > 0.001


def test_few_cases_decide_nothing(plan):
    assert decide_rules(cases_of(plan, false_alarm, count=4), ["a"]) == ()


def test_a_label_that_is_not_annotated_in_a_case_does_not_count_there(plan):
    trials = decide_rules([*cases_of(plan, false_alarm), {}, {}], ["a"])
    assert trials[0].cases == 8


def test_rules_in_words():
    every = ComponentRules(fill_holes=True, minimum_ml=0.1234, largest_component=True)
    assert describe_rules(every) == "fill holes, remove below 0.123 ml, keep the largest"
    assert describe_rules(ComponentRules()) == "nothing"


class SameReferences:
    """References of which the rules alter a given number."""

    def __init__(self, altered=0, known=10):
        self.answer, self.asked = (altered, known), []

    def altered(self, label, rules):
        self.asked.append((label, rules))
        return self.answer


def test_four_cases_of_one_fold_are_enough_where_the_references_agree(plan):
    references = SameReferences()
    trials = decide_rules(cases_of(plan, false_alarm, count=4), ["a"], references)
    how = accepted_rules(trials)["a"]
    assert how.largest_component or how.minimum_ml > 0
    assert references.asked[0][0] == "a"
    assert "over 4 cases" in trials[0].reason
    assert "it would alter 0 of 10 reference masks" in trials[0].reason


@pytest.mark.parametrize("references", [SameReferences(altered=1), SameReferences(known=4)])
def test_a_rule_that_would_alter_references_is_not_accepted(plan, references):
    trials = decide_rules(cases_of(plan, false_alarm, count=4), ["a"], references)
    assert accepted_rules(trials) == {}
    assert f"it would alter {references.answer[0]} of" in trials[-1].reason


def test_one_case_in_fifty_may_differ(plan):
    assert accepted_rules(decide_rules(cases_of(plan, false_alarm), ["a"], SameReferences(altered=2, known=100)))


def test_one_helped_case_is_chance(plan):
    def once(predicted, truth, index):
        if index == 0:
            false_alarm(predicted, truth, index)

    assert accepted_rules(decide_rules(cases_of(plan, once), ["a"])) != {}
    assert accepted_rules(decide_rules(cases_of(plan, once), ["a"], SameReferences())) == {}


def test_one_fold_may_harm_no_case(plan):
    """Seven cases have a false alarm; in the eighth, a true part is removed with it."""

    def gamble(predicted, truth, index):
        predicted[15:18, 15:18, 4:6] = 1
        if index == 7:
            truth[15:18, 15:18, 4:6] = 1

    assert accepted_rules(decide_rules(cases_of(plan, gamble), ["a"])) != {}
    references = SameReferences()
    assert accepted_rules(decide_rules(cases_of(plan, gamble), ["a"], references)) == {}
    assert not references.asked  # nothing is read where nothing could be accepted


def test_a_single_validation_case_decides_nothing(plan):
    assert decide_rules(cases_of(plan, false_alarm, count=1), ["a"], SameReferences()) == ()
    assert rules_reasons(["a"], (), few=True) == {"postprocessing a": "none: fewer than 2 cases to decide on"}
    assert rules_reasons(["a"], (), few=False) == {"postprocessing a": "none: fewer than 5 cases to decide on"}
