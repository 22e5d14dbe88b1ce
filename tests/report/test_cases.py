import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.evaluation.scores import CaseScores, score_case
from attunet.evaluation.summary import summarize
from attunet.report.cases import CaseView, case_pictures, choose_cases

LABELS = {"background": 0, "body": 1, "lesion": 7}


def summary_of(**shifts):
    """Cases whose masks lie so many voxels apart."""
    cases = []
    for name, shift in shifts.items():
        truth, guess = np.zeros((2, 12, 8, 8), np.uint8)
        truth[2:8], guess[2 + shift : 8 + shift] = 1, 1
        cases.append(CaseScores(name, score_case(truth, guess, LABELS, (1.0, 1.0, 1.0))))
    return summarize(cases, LABELS)


@pytest.mark.parametrize(
    ("shifts", "places"),
    [
        ({"a": 2, "b": 0, "c": 4, "d": 1, "e": 3}, {"b": "best", "a": "median", "c": "worst"}),
        ({"a": 2, "b": 0}, {"b": "best", "a": "worst"}),
        ({"a": 2}, {"a": "best"}),
        ({}, {}),
    ],
)
def test_the_best_the_median_and_the_worst_case_are_chosen(shifts, places):
    chosen = choose_cases(summary_of(**shifts))
    assert {name: text.split()[0] for name, text in chosen.items()} == places
    assert list(chosen) == list(places)


def test_cases_without_scores_are_not_chosen():
    nothing = np.zeros((4, 4, 4), np.uint8)
    empty = CaseScores("empty", score_case(nothing, nothing, LABELS, (1.0, 1.0, 1.0)))
    assert list(choose_cases(summarize([empty, *summary_of(a=1).cases], LABELS))) == ["a"]


def test_a_picture_for_each_case_in_the_colours_of_the_plan(make_plan_of):
    image = Volume(np.random.default_rng(0).normal(size=(1, 12, 8, 8)), np.eye(4))
    mask = image.with_array((image.array > 1) * np.uint8(7))
    alpha = image.with_array(np.full((2, 12, 8, 8), 0.5, np.float32))
    views = [CaseView("first", image, mask), CaseView("second", image, mask, mask, {"level2": alpha})]
    plain, full = case_pictures(views, make_plan_of(), "a try")
    assert (plain.caption, plain.name, full.name) == ("first: a try", "case_1", "case_2")
    assert [text.get_text() for text in full.figure.legends[0].get_texts()] == ["lesion", "reference"]
    assert {"level2.1", "level2.2"} <= {axes.get_title() for axes in full.figure.axes}
