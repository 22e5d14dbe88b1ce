"""Cleaning of masks: what goes, what stays, and what fills."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attunet.config import ComponentRules
from attunet.inference.postprocess import clean

LABELS = {"background": 0, "liver": 1, "tumour": 2}
ISOTROPIC = (1.0, 1.0, 1.0)
MASKS = arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.integers(0, 2))
LARGEST = {"liver": ComponentRules(largest_component=True)}
FILL = {"liver": ComponentRules(fill_holes=True)}


def parts(shape=(20, 20, 20)):
    """A large part, a part of 8 voxels that touches nothing, and a voxel that touches it by a corner."""
    mask = np.zeros(shape, np.uint8)
    mask[1:6, 1:6, 1:6] = 1
    mask[10:12, 10:12, 10:12] = 1
    mask[12, 12, 12] = 1
    return mask


def test_only_the_largest_part_is_kept():
    mask = parts()
    cleaned = clean(mask, LARGEST, LABELS, ISOTROPIC)
    assert cleaned.sum() == 125
    assert mask.sum() == 134  # the caller's mask is left as it was


@pytest.mark.parametrize(("minimum", "left"), [(0.0, 134), (0.009, 134), (0.0091, 125), (1.0, 0)])
def test_parts_smaller_than_so_many_millilitres_go_and_corners_join(minimum, left):
    assert clean(parts(), {"liver": ComponentRules(minimum_ml=minimum)}, LABELS, ISOTROPIC).sum() == left


def test_millilitres_depend_on_the_spacing():
    how = {"liver": ComponentRules(minimum_ml=0.05)}
    assert clean(parts(), how, LABELS, (2.0, 2.0, 2.0)).sum() == 134
    assert clean(parts(), how, LABELS, (1.0, 1.0, 2.0)).sum() == 125


def test_holes_are_filled_where_background_was():
    mask = np.ones((7, 7, 7), np.uint8)
    mask[3, 3, 3], mask[2, 2, 2], mask[5, 5, 6] = 0, 2, 0  # a hole, a tumour within, and a dent at the border
    filled = clean(mask, FILL, LABELS, ISOTROPIC)
    assert (filled[3, 3, 3], filled[2, 2, 2], filled[5, 5, 6]) == (1, 2, 0)


def test_a_ring_encloses_in_an_image_but_not_in_a_volume():
    ring = np.zeros((7, 7, 3), np.uint8)
    ring[1:6, 1:6, 1] = 1
    ring[3, 3, 1] = 0
    assert clean(ring, FILL, LABELS, ISOTROPIC)[3, 3, 1] == 0
    assert clean(ring[..., 1:2], FILL, LABELS, ISOTROPIC)[3, 3, 0] == 1


def test_removed_voxels_take_the_background_of_the_training():
    labels = {"background": 255, "liver": 1}
    mask = np.where(parts() == 1, 1, 255).astype(np.uint8)
    assert set(np.unique(clean(mask, LARGEST, labels, ISOTROPIC))) == {1, 255}
    assert clean(mask, LARGEST, labels, ISOTROPIC)[11, 11, 11] == 255


@given(mask=MASKS, fill=st.booleans(), minimum=st.sampled_from([0.0, 0.002]), largest=st.booleans())
def test_other_labels_are_left_alone_and_cleaning_twice_is_cleaning_once(mask, fill, minimum, largest):
    how = {"liver": ComponentRules(fill_holes=fill, minimum_ml=minimum, largest_component=largest)}
    once = clean(mask, how, LABELS, ISOTROPIC)
    np.testing.assert_array_equal(once == 2, mask == 2)
    np.testing.assert_array_equal(clean(once, how, LABELS, ISOTROPIC), once)
    assert once.dtype == mask.dtype


@given(mask=MASKS)
def test_no_postprocessing_changes_nothing(mask):
    np.testing.assert_array_equal(clean(mask, {"liver": ComponentRules()}, LABELS, ISOTROPIC), mask)


REGIONS = {"liver": (1, 2), "tumour": (2,)}


def test_a_region_is_cleaned_with_what_lies_inside_it():
    mask = parts()
    mask[10, 10, 10], mask[3, 3, 3] = 2, 2  # a tumour in either part
    cleaned = clean(mask, LARGEST, LABELS, ISOTROPIC, regions=REGIONS)
    assert cleaned[10, 10, 10] == 0
    assert cleaned[3, 3, 3] == 2


def test_what_is_removed_of_an_inner_region_falls_back_to_the_outer_one():
    mask = parts()
    mask[2:4, 2:4, 2:4], mask[5, 5, 5] = 2, 2
    cleaned = clean(mask, {"tumour": ComponentRules(largest_component=True)}, LABELS, ISOTROPIC, regions=REGIONS)
    assert cleaned[5, 5, 5] == 1
    assert (cleaned == 2).sum() == 8


def test_a_hole_of_an_inner_region_is_filled_from_the_outer_one():
    mask = np.ones((9, 9, 9), np.uint8)
    mask[2:7, 2:7, 2:7], mask[4, 4, 4] = 2, 1
    how = {"tumour": ComponentRules(fill_holes=True)}
    assert clean(mask, how, LABELS, ISOTROPIC, regions=REGIONS)[4, 4, 4] == 2
    assert clean(mask, how, LABELS, ISOTROPIC)[4, 4, 4] == 1  # a label of its own is no background


def test_a_large_volume_takes_no_longer_than_its_labels():
    mask = np.zeros((400, 400, 200), np.uint8)
    mask[100:140, 100:140, 100:140] = 1
    started = time.process_time()
    clean(mask, {"liver": ComponentRules(fill_holes=True, largest_component=True)}, LABELS, ISOTROPIC)
    assert time.process_time() - started < 3
