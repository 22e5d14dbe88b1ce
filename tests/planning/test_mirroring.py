"""Mirroring only where a mirrored image could be one of the data set."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.planning.label_positions import label_orders
from attunet.planning.mirroring import plan_mirroring

EITHER = [(-20, -20, -20), (20, 20, 20), (-20, 20, -20), (20, -20, 20)] * 2
KIDNEYS = {"kidney_left": [(-30, -20, 0)] * 6, "kidney_right": [(30, -20, 5), (30, -20, -5)] * 3}


def mirrored(fingerprint, slice_axis=2, dims=3):
    return plan_mirroring(fingerprint, slice_axis, dims)


def test_a_tumour_on_either_side_may_be_mirrored(place_labels):
    found = mirrored(place_labels({"tumour": EITHER}))
    assert found.axes == (0, 1, 2)
    assert "left-right: yes" in found.reason


def test_a_liver_may_not(place_labels):
    found = mirrored(place_labels({"liver": [(25, 0, -10), (25, 0, 10)] * 4}))
    assert found.axes == (1, 2)
    assert "left-right: no, liver always lies on the right side" in found.reason


def test_front_and_back_of_one_structure_may_not(place_labels):
    front, back = [(x, y + 9, z) for x, y, z in EITHER], [(x, y - 9, -z) for x, y, z in EITHER]
    found = mirrored(place_labels({"Anterior": front, "Posterior": back}))
    assert found.axes == (0, 2)
    assert "front-back: no, Posterior always lies behind Anterior" in found.reason
    assert found.fixed_order == {"1": "Posterior, Anterior"}


def test_two_kidneys_change_places(place_labels):
    found = mirrored(place_labels(KIDNEYS))
    assert found.swaps == found.lateral == (("kidney_left", "kidney_right"),)
    assert 0 in found.axes
    assert "left-right: yes, with kidney_left and kidney_right swapped" in found.reason


def test_two_kidneys_do_not_where_a_liver_shows_the_side(place_labels):
    found = mirrored(place_labels(KIDNEYS | {"liver": [(20, 10, 20)] * 6}))
    assert 0 not in found.axes
    assert found.swaps == ()
    assert found.lateral == (("kidney_left", "kidney_right"),)


def test_one_kidney_has_no_counterpart(place_labels):
    found = mirrored(place_labels({"kidney_left": EITHER}))
    assert found.axes == (1, 2)
    assert "left-right: no, kidney_left is named for its side" in found.reason


def test_three_cases_are_too_few(place_labels):
    found = mirrored(place_labels({"tumour": EITHER[:3]}))
    assert found.axes == ()
    assert "fewer than 4 cases show tumour, too few to tell" in found.reason
    found = mirrored(place_labels({"cyst": [*EITHER[:3], None], "tumour": EITHER[:4]}))
    assert found.axes == ()


def test_axes_are_the_networks(place_labels):
    liver = place_labels({"liver": [(25, 0, -10), (25, 0, 10)] * 4})
    assert mirrored(liver, slice_axis=0).axes == (0, 1)
    assert mirrored(liver, slice_axis=1).axes == (1, 2)
    assert mirrored(liver, slice_axis=2, dims=2).axes == (1,)
    assert "up-down" not in mirrored(liver, slice_axis=2, dims=2).reason


def test_pictures_may_be_mirrored_unless_their_labels_say_otherwise(place_labels):
    assert mirrored(place_labels({"cell": [(9, 9, 0)] * 2}, modality="image"), dims=2).axes == (0, 1)
    sky = {"sky": [(-30, 0, 0), (-30, 5, 0)] * 2, "sea": [(30, 0, 0)] * 4}
    found = mirrored(place_labels(sky, modality="image"), dims=2)
    assert found.axes == (1,)
    assert "up-down: no, sky always lies above sea" in found.reason
    eyes = {"left eye": [(0, -9, 0)] * 4, "right eye": [(1, 9, 0)] * 2 + [(-1, 9, 0)] * 2}
    assert mirrored(place_labels(eyes, modality="image"), dims=2).axes == (0,)


def test_a_region_is_where_its_values_are(place_labels):
    facts = place_labels({"tumour": EITHER, "organ": [(25, 0, 0)] * 8}, regions={"tumour": (1, 2), "organ": (2,)})
    np.testing.assert_allclose(facts.centroids[0, 0], (2.5, -10, -10))


def test_regions_change_places_only_where_each_part_has_a_mirror_image(place_labels):
    positions = KIDNEYS | {"tumour": EITHER[:6]}
    both = {"kidney_left": (1, 3), "kidney_right": (2, 4), "tumour": (3, 4)}
    assert mirrored(place_labels(positions, regions=both)).swaps == (("kidney_left", "kidney_right"),)
    found = mirrored(place_labels(positions, regions=both | {"kidney_right": (2,), "tumour": (3,)}))
    assert (found.swaps, 0 in found.axes) == ((), False)
    assert "left-right: no, a part of kidney_left has no mirror image among the label values" in found.reason


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    names=st.sampled_from([("a",), ("a", "b"), ("x_left", "x_right"), ("x_left", "x_right", "c")]),
    cases=st.integers(4, 8),
)
def test_a_mirrored_case_shows_no_order_that_the_data_forbid(data, names, cases, place_labels):
    point = st.tuples(*[st.integers(-40, 40)] * 3)
    positions = {name: data.draw(st.lists(point, min_size=cases, max_size=cases)) for name in names}
    facts = place_labels(positions)
    found, before = mirrored(facts), label_orders(facts)
    partner = {**dict(found.swaps), **{right: left for left, right in found.swaps}}
    for axis in found.axes:
        swapped = {partner.get(name, name) if axis == 0 else name: points for name, points in positions.items()}
        sign = np.where(np.arange(3) == axis, -1, 1)
        turned = {name: [tuple((sign * place).tolist()) for place in swapped[name]] for name in names}
        np.testing.assert_array_equal(label_orders(place_labels(turned)).signs[axis], before.signs[axis])
