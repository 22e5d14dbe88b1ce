from dataclasses import replace

import numpy as np
import pytest

from attunet.bundle import held_out_cases, load_bundle
from attunet.config import ComponentRules
from attunet.data.cases import read_case
from attunet.data.formats import write_volume
from attunet.selection.saved_masks import mask_components, score_mask, view_mask

LARGEST = {"blob": ComponentRules(largest_component=True)}


@pytest.fixture
def plan(folded):
    return load_bundle(folded).plan


@pytest.fixture
def saved(folded, tmp_path):
    """A case and its mask, which is right but for two voxels far away."""
    case = held_out_cases(folded)[0][0]
    _, truth = read_case(case.case)
    mask = truth.array.copy()
    corner = np.unravel_index(np.argmax(np.linalg.norm(np.argwhere(mask[0] >= 0) - 10, axis=1)), mask.shape[1:])
    mask[0][corner] = 1
    write_volume(truth.with_array(mask), tmp_path / "mask.nii.gz")
    return case, tmp_path / "mask.nii.gz"


def test_post_processing_is_scored(saved, plan):
    assert score_mask(*saved, plan).mean_dice < 1.0
    assert score_mask(*saved, plan, LARGEST).mean_dice == 1.0
    components = mask_components(*saved, plan)["blob"]
    assert components.dice(ComponentRules()) == pytest.approx(score_mask(*saved, plan).mean_dice)


def test_a_label_that_is_not_annotated_is_not_scored(saved, plan):
    case, mask = saved
    partial = replace(case, case=replace(case.case, annotated=()))
    assert score_mask(partial, mask, plan).scores == {}
    assert np.isnan(score_mask(partial, mask, plan).mean_dice)
    assert mask_components(partial, mask, plan) == {}


def test_a_view_shows_the_post_processed_mask(saved, plan):
    shown = view_mask(*saved, plan, LARGEST, "worst")
    assert shown.name == "worst"
    assert np.array_equal(shown.segmentation.array, shown.reference.array)
