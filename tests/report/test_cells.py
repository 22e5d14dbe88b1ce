from math import nan

import numpy as np

from attunet.evaluation import CaseScores, score_case, summarize
from attunet.report.cells import between, number, spread


def summary_of(*shifts):
    mask = np.zeros((8, 4, 4), np.uint8)
    mask[:4] = 1
    scores = [score_case(mask, np.roll(mask, shift, 0), {"liver": 1}, (1.0, 1.0, 1.0)) for shift in shifts]
    return summarize([CaseScores(str(at), entry) for at, entry in enumerate(scores)], {"liver": 1})


def test_numbers_have_their_digits_and_nothing_is_a_dash():
    assert number(0.12345, 3) == "0.123"
    assert number(nan, 3) == "–"
    assert between((0.5, 1.0), 2) == "0.50 to 1.00"
    assert between((nan, nan), 2) == "–"


def test_several_cases_have_a_standard_deviation():
    assert spread(summary_of(0, 2), "liver", "Dice", 2) == "0.75 ± 0.35"
    assert spread(summary_of(2), "liver", "Dice", 2) == "0.50"
    assert spread(summary_of(), "liver", "Dice", 2) == "–"
