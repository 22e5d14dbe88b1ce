"""Units, voxel volumes and distances on orthogonal and sheared grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.alignment import same_grid
from attunet.data.geometry import (
    MM_PER_UNIT,
    invertible,
    length_unit,
    reach_in_voxels,
    shear_degrees,
    to_positions,
    voxel_ml,
    voxel_of,
)
from attunet.data.volume import Volume

SHEARED = np.array([[1.0, 0, 0, 0], [0, 1, 0.5, 0], [0, 0, 2, 0], [0, 0, 0, 1]])


def volume(affine, shape=(1, 8, 8, 8)):
    return Volume(np.zeros(shape, np.uint8), affine)


@pytest.mark.parametrize(
    ("text", "mm"),
    [("micron", 1e-3), ("um", 1e-3), ("µm", 1e-3), ("μm", 1e-3), ("meter", 1e3), ('"mm"', 1), ("Nanometer", 1e-6)],
)
def test_units_in_the_spellings_of_files(text, mm):
    assert MM_PER_UNIT[length_unit(text)] == mm


@pytest.mark.parametrize("text", ["", "pixel", "unknown", "mmm"])
def test_what_is_no_unit(text):
    assert length_unit(text) is None


@given(st.floats(1e-7, 1e5))
def test_any_voxel_size_is_invertible(size):
    assert invertible(np.diag([size, size, size * 3, 1]))


@pytest.mark.parametrize("column", [[0.0, 0, 0], [1e-9, 0, 0], [1, 1e-9, 0], [np.nan, 1, 1], [np.inf, 1, 1]])
def test_axes_without_length_or_in_one_plane_are_not_invertible(column):
    affine = np.eye(4)
    affine[:3, 1] = column
    assert not invertible(affine)


def test_a_rotated_grid_is_not_sheared():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1, 2, 3])
    assert shear_degrees(affine) == 0
    assert voxel_of(affine) == pytest.approx((1, 2, 3))


def test_the_voxel_of_a_sheared_grid_has_the_volume_of_its_determinant():
    assert shear_degrees(SHEARED) == pytest.approx(np.degrees(np.arctan(0.25)))
    assert voxel_ml(voxel_of(SHEARED)) == pytest.approx(0.002)


def test_distances_on_a_sheared_grid_are_those_of_the_affine():
    indices = np.random.default_rng(0).integers(0, 20, (50, 3))
    world = indices @ SHEARED[:3, :3].T
    found = to_positions(indices, voxel_of(SHEARED))
    np.testing.assert_allclose(found[:, None] - found[None], world[:, None] - world[None])


def test_a_ball_stays_within_the_reach_in_voxels():
    reach = reach_in_voxels(voxel_of(SHEARED), 5.0)
    grid = np.argwhere(np.ones((61, 61, 61))) - 30
    inside = grid[np.linalg.norm(grid @ SHEARED[:3, :3].T, axis=1) <= 5]
    assert (np.abs(inside).max(axis=0) <= reach).all()
    assert reach_in_voxels((1.0, 1.0, 2.0), 5.0) == (5, 5, 3)


@pytest.mark.parametrize("size", [1e-4, 0.01, 1.0, 5.0])
def test_the_tolerance_follows_the_voxel(size):
    affine = np.diag([size, size, size, 1])
    near, far = affine.copy(), affine.copy()
    near[0, 3], far[0, 3] = 0.05 * size, 0.5 * size
    assert same_grid(volume(affine), volume(near))
    assert not same_grid(volume(affine), volume(far))


def test_float32_rounding_far_from_the_origin_is_tolerated():
    affine = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    affine[:3, 3] = 1234.5678
    assert same_grid(volume(affine), volume(affine.astype(np.float32).astype(float)))
