"""Contours: filling follows pixel centres, and the contours of any mask fill to exactly that mask."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from attunet.data.formats.dicom.contours import contours_of, fill_contours

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=14))


def area(contour):
    """Signed, in pixels; positive when the contour is walked clockwise, j pointing down."""
    i, j = contour.T
    return float(np.sum(i * np.roll(j, -1) - np.roll(i, -1) * j) / 2)


def picture(text):
    """A mask from rows of dots and crosses, j pointing down."""
    return np.array([[character == "x" for character in row] for row in text.split()]).T


def polygon(*points):
    return np.array(points, np.float64)


@given(MASKS)
def test_filling_the_contours_of_a_mask_gives_the_mask(mask):
    assert (fill_contours(contours_of(mask), mask.shape) == mask).all()


@given(MASKS)
def test_contours_can_be_united_as_well(mask):
    united = np.zeros_like(mask)
    for contour in contours_of(mask):
        filled = fill_contours([contour], mask.shape)
        assert not (united & filled).any()
        united |= filled
    assert (united == mask).all()


@given(MASKS)
def test_one_contour_for_each_part_around_its_pixels(mask):
    parts, count = ndimage.label(mask)
    contours = contours_of(mask)
    assert len(contours) == count
    assert sorted(map(area, contours)) == sorted(np.bincount(parts.ravel())[1:].tolist())


@given(MASKS)
def test_contours_pass_between_pixels(mask):
    for contour in contours_of(mask):
        steps = np.roll(contour, -1, axis=0) - contour
        assert (np.mod(contour, 1) == 0.5).all()
        assert (np.count_nonzero(steps, axis=1) == 1).all()


@pytest.mark.parametrize(
    "text",
    [
        "xxxxx x...x x.x.x x...x xxxxx",  # an island in a hole
        "xxxxxxx x.x.x.x xxxxxxx x.....x xxxxxxx",  # holes side by side, whose channels meet the next one
        "xxxxxx x.x..x x.xxxx x....x xxxxxx",  # a hole whose channel ends in the middle of an edge
        "xx.. xx.. ..xx ..xx",  # parts that touch at a corner
        "xxx.. x.x.. xx.xx ..x.x ..xxx",
        ".xx x.x xx.",
    ],
)
def test_holes_and_islands(text):
    mask = picture(text)
    assert (fill_contours(contours_of(mask), mask.shape) == mask).all()


def test_a_square_has_four_vertices():
    assert contours_of(picture("... .x. ..."))[0].tolist() == [[0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [0.5, 1.5]]
    assert contours_of(np.zeros((3, 3), np.bool_)) == []


def test_a_centre_is_inside_when_it_is_on_a_lower_edge():
    mask = fill_contours([polygon((1, 1), (3, 1), (3, 3), (1, 3))], (5, 5))
    assert (mask == picture("..... .xx.. .xx.. ..... .....")).all()


def test_contours_that_share_an_edge_share_no_pixel():
    left, right = polygon((0, 0), (2, 0), (3, 4), (0, 4)), polygon((2, 0), (4, 0), (4, 4), (3, 4))
    one, other = fill_contours([left], (6, 6)), fill_contours([right], (6, 6))
    assert not (one & other).any()
    assert ((one | other) == fill_contours([left, right], (6, 6))).all()
    assert (one | other).sum() == 16


def test_direction_and_first_vertex_do_not_matter():
    contour = np.random.default_rng(0).integers(-12, 90, (40, 2)) / 4
    mask = fill_contours([contour], (20, 18))
    assert (fill_contours([contour[::-1]], (20, 18)) == mask).all()
    assert (fill_contours([np.roll(contour, 7, axis=0)], (20, 18)) == mask).all()


@given(st.lists(st.tuples(st.integers(-36, 76), st.integers(-36, 76)), min_size=3, max_size=12))
def test_a_contour_that_leaves_the_slice_fills_what_lies_within(points):
    contour = polygon(*points) / 4
    whole = fill_contours([contour + 10], (31, 31))
    assert (fill_contours([contour], (8, 11)) == whole[10:18, 10:21]).all()


def test_concave_and_crossing_contours_follow_the_even_odd_rule():
    star = polygon(*[(10 + 9.1 * np.sin(turn), 10 + 9.1 * np.cos(turn)) for turn in np.arange(5) * 0.8 * np.pi])
    mask = fill_contours([star], (21, 21))
    assert not mask[10, 10]
    assert mask[10, 17]


def test_nothing_is_inside_of_less_than_a_triangle():
    assert not fill_contours([], (4, 4)).any()
    assert not fill_contours([polygon((1, 1)), polygon((0, 0), (3, 3))], (4, 4)).any()
    assert not fill_contours([polygon((8, 8), (9, 8), (9, 9))], (4, 4)).any()


def test_many_crossings_are_filled_in_batches(monkeypatch):
    contour = np.random.default_rng(1).uniform(0, 30, (200, 2))
    whole = fill_contours([contour], (30, 30))
    monkeypatch.setattr("attunet.data.formats.dicom.contours.BATCH", 50)
    assert (fill_contours([contour], (30, 30)) == whole).all()


def test_an_organ_takes_milliseconds_a_slice():
    grid = np.indices((512, 512)) - 256
    organ = (np.hypot(*grid) < 160) & (np.hypot(*(grid - 40)) > 30)
    begin = time.process_time()
    for _ in range(30):
        contours = contours_of(organ)
    assert time.process_time() - begin < 1.5
    assert (fill_contours(contours, organ.shape) == organ).all()
