"""The region of a localizer: a coarse mask, read as if it were as large as the fine grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from attunet.inference.windows.region import Region

GRIDS = st.tuples(*[st.integers(1, 7)] * 3)


def whole(region):
    """Every voxel of the fine grid, one by one: the coarse voxel whose centre is nearest, the upper one of two."""
    result = np.zeros(region.shape, bool)
    for place in np.ndindex(region.shape):
        centres = [(n + 0.5) * old / new for n, old, new in zip(place, region.mask.shape, region.shape, strict=True)]
        result[place] = region.mask[tuple(int(centre + 1e-9) for centre in centres)]
    return result


@st.composite
def regions(draw):
    coarse, fine = draw(GRIDS), draw(st.tuples(*[st.integers(1, 12)] * 3))
    mask = np.random.default_rng(draw(st.integers(0, 99))).random(coarse) < draw(st.sampled_from([0.05, 0.3, 1.0]))
    return Region(mask, fine)


def parts(draw, size):
    low = draw(st.integers(0, size - 1))
    return slice(low, draw(st.integers(low + 1, size)))


@given(region=regions(), axes=st.permutations(range(3)), data=st.data())
def test_any_part_is_that_of_the_whole_grid(region, axes, data):
    turned = whole(region).transpose(axes)
    planes, band, columns = (parts(data.draw, size) for size in turned.shape)
    np.testing.assert_array_equal(region.part(planes, band, columns, axes), turned[planes, band, columns])

    near, far = region.bounds(planes, band, axes)
    slab = turned[planes, band]
    assert slab[:, near, far].sum() == slab.sum()
    if slab.any():
        rows, places = slab.any(axis=(0, 2)), slab.any(axis=(0, 1))
        assert (rows[near.start], rows[near.stop - 1], places[far.start], places[far.stop - 1]) == (True,) * 4
    else:
        assert (near.start, far.start) == (near.stop, far.stop)


@given(region=regions(), margin=st.tuples(*[st.integers(0, 3)] * 3))
def test_its_box_holds_all_of_it_and_nothing_more(region, margin):
    assume(not region.empty)
    places = np.nonzero(whole(region))
    expected = [
        slice(max(0, place.min() - more), min(size, place.max() + 1 + more))
        for place, more, size in zip(places, margin, region.shape, strict=True)
    ]
    assert list(region.box(margin)) == expected


@given(region=regions(), data=st.data())
def test_a_window_touches_it_if_it_has_one_of_its_voxels(region, data):
    box = tuple(
        slice(low, low + data.draw(st.integers(1, 9))) for low in data.draw(st.tuples(*[st.integers(0, 11)] * 3))
    )
    assume(all(part.start < size for part, size in zip(box, region.shape, strict=True)))
    assert region.touches(box) == whole(region)[box].any()


@pytest.mark.parametrize("filled", [False, True])
def test_an_empty_region_says_so(filled):
    region = Region(np.full((2, 3, 4), filled), (9, 9, 9))
    assert region.empty is not filled
    assert region.touches((slice(0, 9),) * 3) is filled
