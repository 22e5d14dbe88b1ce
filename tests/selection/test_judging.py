from dataclasses import replace

import numpy as np
import pytest

from attunet.bundle import load_bundle
from attunet.config import ComponentRules
from attunet.data.cases import read_case
from attunet.data.formats import write_volume
from attunet.evaluation.scores import CaseScores
from attunet.selection.judging import judge, mean_dice, take_mask_apart, view
from attunet.selection.out_of_fold import out_of_fold_cases

LARGEST = {"blob": ComponentRules(largest_component=True)}


@pytest.fixture
def held(folded):
    """A case whose mask is right, but for two voxels far away."""
    first = out_of_fold_cases(folded)[0][0]
    _, truth = read_case(first.case)
    mask = truth.array.copy()
    corner = np.unravel_index(np.argmax(np.linalg.norm(np.argwhere(mask[0] >= 0) - 10, axis=1)), mask.shape[1:])
    mask[0][corner] = 1
    first.mask.parent.mkdir(parents=True)
    write_volume(truth.with_array(mask), first.mask)
    return first


def test_cleaning_is_scored(held, folded):
    plan = load_bundle(folded).plan
    assert mean_dice(judge(held, plan)) < 1.0
    assert mean_dice(judge(held, plan, LARGEST)) == 1.0
    pieces = take_mask_apart(held, plan)["blob"]
    assert pieces.dice(ComponentRules()) == pytest.approx(mean_dice(judge(held, plan)))


def test_a_label_that_was_not_drawn_is_not_judged(held, folded):
    plan = load_bundle(folded).plan
    partial = replace(held, case=replace(held.case, annotated=()))
    assert judge(partial, plan).scores == {}
    assert take_mask_apart(partial, plan) == {}
    assert np.isnan(mean_dice(CaseScores("nothing")))


def test_a_view_shows_the_cleaned_mask(held, folded):
    shown = view(held, load_bundle(folded).plan, LARGEST, "worst")
    assert shown.name == "worst"
    assert np.array_equal(shown.segmentation.array, shown.reference.array)
