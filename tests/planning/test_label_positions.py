"""Orders that data show: in nearly all cases, and in enough of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.planning.label_positions import label_orders, lateral_labels

POINT = st.tuples(*[st.integers(-40, 40)] * 3)


def along_x(*values):
    return [None if value is None else (value, 0, 0) for value in values]


def test_an_order_that_nine_of_ten_cases_show_is_fixed(place_labels):
    orders = label_orders(place_labels({"a": along_x(*[0] * 10), "b": along_x(*[5] * 9, -5)}))
    assert orders.names == ("a", "b", "the middle")
    assert orders.signs[0, 0, 1] == 1
    assert orders.signs[0, 1, 0] == -1
    assert orders.first_fixed(0) == ("a", "b")


def test_an_order_that_fewer_show_is_not(place_labels):
    orders = label_orders(place_labels({"a": along_x(*[0] * 10), "b": along_x(*[5] * 8, -5, -5)}))
    assert not orders.signs.any(where=[True, True, False])
    assert orders.first_fixed(0) is None


def test_three_cases_are_too_few(place_labels):
    orders = label_orders(place_labels({"a": along_x(0, 0, 0, None), "b": along_x(5, 5, 5, 5)}))
    assert orders.unknown[0, 1]
    assert orders.signs[0, 0, 1] == 0
    assert not orders.unknown[1, 2]


def test_the_middle_is_no_side(place_labels):
    orders = label_orders(place_labels({"a": along_x(1, 2, 1, 2), "b": along_x(10, 10, 10, 10)}))
    assert orders.signs[0, 0, 2] == 0
    assert orders.signs[0, 1, 2] == -1
    assert orders.signs[0, 0, 1] == 1


@settings(max_examples=40, deadline=None)
@given(points=st.lists(st.tuples(POINT, POINT), min_size=4, max_size=12))
def test_mirrored_data_have_the_opposite_order(points, place_labels):
    there = {"a": [one for one, _ in points], "b": [other for _, other in points]}
    back = {name: [(-x, y, z) for x, y, z in centroids] for name, centroids in there.items()}
    signs, mirrored = label_orders(place_labels(there)).signs, label_orders(place_labels(back)).signs
    np.testing.assert_array_equal(signs[0], -mirrored[0])
    np.testing.assert_array_equal(signs[1:], mirrored[1:])
    np.testing.assert_array_equal(signs, -signs.transpose(0, 2, 1))


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
