"""Sides in the names of labels, as data sets write them."""

from __future__ import annotations

import pytest

from attunet.planning.lateral import lateral_labels


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("kidney_left", "kidney_right"),
        ("left kidney", "right kidney"),
        ("Left-Amygdala", "Right-Amygdala"),
        ("KidneyLeft", "KidneyRight"),
        ("lungL", "lungR"),
        ("femur_l", "femur_r"),
        ("L_hip", "R_hip"),
        ("ctx-lh-insula", "ctx-rh-insula"),
        ("Optic nerve Lt", "Optic nerve Rt"),
        ("rib_left_10", "rib_right_10"),
        ("LEFT_LUNG", "RIGHT_LUNG"),
    ],
)
def test_pairs(left, right):
    assert lateral_labels([right, "liver", left]) == (((left, right),), ())


def test_a_side_without_its_counterpart():
    assert lateral_labels(["lung_middle_lobe_right", "liver"]).single == ("lung_middle_lobe_right",)
    assert lateral_labels(["rib_left_1", "rib_right_2"]).single == ("rib_left_1", "rib_right_2")


def test_names_that_mean_no_side():
    names = ["label_1", "label_2", "leftover", "bright", "L", "vertebra_L1", "vertebrae_L2", "cell r", "心房"]
    assert lateral_labels(names) == ((), ())


def test_every_pair_is_found():
    names = ["lung_upper_lobe_left", "lung_upper_lobe_right", "lung_middle_lobe_right", "kidney_left", "kidney_right"]
    found = lateral_labels(names)
    assert found.pairs == (("lung_upper_lobe_left", "lung_upper_lobe_right"), ("kidney_left", "kidney_right"))
    assert found.single == ("lung_middle_lobe_right",)
