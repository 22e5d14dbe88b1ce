"""A patch lies around its voxel, inside the array where it fits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.patches import cut_patch, patch_start


@st.composite
def boxes(draw):
    shape = draw(st.tuples(*[st.integers(1, 12)] * 3))
    size = draw(st.tuples(*[st.integers(1, 15)] * 3))
    return shape, size, tuple(draw(st.integers(0, extent - 1)) for extent in shape)


@given(boxes())
def test_a_patch_holds_its_voxel_and_has_its_size(box):
    shape, size, centre = box
    array = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    patch = cut_patch(array, centre, size, fill=0)
    assert patch.shape == size
    assert array[centre] in patch
    inside = [min(length, extent) for length, extent in zip(size, shape, strict=True)]
    assert np.count_nonzero(patch) == np.prod(inside)


def test_where_it_fits_it_is_shifted_inside_else_padded_evenly():
    row = np.arange(6).reshape(6, 1, 1)
    assert cut_patch(row, (3, 0, 0), (4, 1, 1)).ravel().tolist() == [1, 2, 3, 4]
    assert cut_patch(row, (0, 0, 0), (4, 1, 1)).ravel().tolist() == [0, 1, 2, 3]
    assert cut_patch(row, (5, 0, 0), (4, 1, 1)).ravel().tolist() == [2, 3, 4, 5]
    assert cut_patch(row, (2, 0, 0), (9, 1, 1)).ravel().tolist() == [0, 0, 1, 2, 3, 4, 5, 5, 5]
    assert cut_patch(row, (2, 0, 0), (9, 1, 1), fill=9).ravel().tolist() == [9, 0, 1, 2, 3, 4, 5, 9, 9]


@pytest.mark.parametrize("channels", [(), (2,)])
def test_leading_axes_stay_and_the_result_is_a_copy(channels):
    array = np.zeros((*channels, 4, 4, 4))
    patch = cut_patch(array, (1, 1, 1), (2, 2, 2))
    assert patch.shape == (*channels, 2, 2, 2)
    patch += 1
    assert not array.any()


@given(boxes())
def test_the_start_of_a_patch_is_its_first_voxel_even_outside_the_array(box):
    shape, size, centre = box
    padded = np.pad(np.arange(np.prod(shape)).reshape(shape), 8, constant_values=-1)
    i, j, k = (start + 8 for start in patch_start(shape, centre, size))
    expected = padded[i : i + size[0], j : j + size[1], k : k + size[2]]
    assert np.array_equal(cut_patch(padded[8:-8, 8:-8, 8:-8], centre, size, fill=-1), expected)
