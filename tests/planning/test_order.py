"""Orders that data show: in nearly all cases, and in enough of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.planning.order import label_orders

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
