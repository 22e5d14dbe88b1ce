"""The grid of objects: that of the slices, or one at right angles beside a sheared stack."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.formats.dicom import DicomSeries
from attunet.data.geometry import shear_degrees
from attunet.dicom.objects.grid import grid_of


def series(affine, shape=(10, 8, 6)):
    return DicomSeries("1.2", "1.1", "CT", "", 1, (), shape, np.asarray(affine, float))


def turned(angle):
    matrix = np.eye(4)
    matrix[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    return matrix


def test_a_straight_stack_is_its_own_grid():
    affine = turned(0.3) @ np.diag([0.7, 0.8, 2.5, 1.0])
    grid = grid_of(series(affine), even=True)
    assert np.array_equal(grid.affine, affine)
    assert grid.same
    assert grid.step == pytest.approx(2.5)
    assert grid.pixel_spacing == pytest.approx((0.8, 0.7))
    array = np.arange(480).reshape(10, 8, 6)
    assert np.array_equal(grid.frames(array), array.transpose(2, 1, 0))


def test_positions_and_directions_are_those_of_dicom():
    grid = grid_of(series(np.diag([0.7, 0.8, 2.5, 1.0])), even=True)
    assert grid.orientation == (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    assert grid.position(2) == (0.0, 0.0, 5.0)


@given(
    st.floats(-40, 40).filter(lambda degrees: abs(degrees) > 1),
    st.floats(-20, 20),
    st.floats(-3, 3),
    st.integers(2, 30),
)
def test_no_voxel_of_a_sheared_stack_is_lost_or_moved_by_more_than_half_a_pixel(tilt, other, angle, slices):
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    affine[1, 2], affine[0, 2] = 2.5 * np.tan(np.radians([tilt, other]))
    affine = turned(angle) @ affine
    shape = (5, 4, slices)
    grid = grid_of(series(affine, shape), even=True)
    assert shear_degrees(grid.affine) == 0
    assert not grid.same
    numbered = np.arange(1, 20 * slices + 1).reshape(shape)
    frames = grid.frames(numbered)
    assert frames.shape == grid.shape[::-1]
    k, j, i = np.nonzero(frames)
    assert sorted(frames[k, j, i]) == sorted(numbered.ravel())
    placed = grid.affine @ np.stack([i, j, k, np.ones_like(i)])
    before = np.stack([*np.unravel_index(frames[k, j, i] - 1, shape), np.ones_like(i)])
    apart = np.linalg.inv(affine) @ (placed - affine @ before)
    assert np.abs(apart[:2]).max() <= 0.5 + 1e-6
    assert np.abs(apart[2]).max() < 1e-6
