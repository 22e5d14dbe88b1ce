"""The orientation of a volume, and the inverse."""

import nibabel
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nibabel.orientations import io_orientation
from scipy import ndimage
from scipy.spatial.transform import Rotation

from attunet.data.orientation import (
    bounding_box,
    canonical,
    content_box,
    oriented,
    reorientation,
    slice_plane,
    tilt_degrees,
)
from attunet.data.volume import Volume

AXES = st.permutations(range(3)).map(tuple)
FLIPS = st.tuples(st.booleans(), st.booleans(), st.booleans())


@given(axes=AXES, flips=FLIPS)
def test_what_is_written_into_the_view_lies_in_the_original(axes, flips):
    array = np.zeros((2, 3, 4, 5))
    view = oriented(array, axes, flips)
    view[:] = np.arange(view.size).reshape(view.shape)
    np.testing.assert_array_equal(oriented(array, axes, flips), view)
    assert len(np.unique(array)) == array.size


@given(axes=AXES, flips=FLIPS, data=st.data())
def test_the_matrix_tells_where_a_voxel_of_the_view_comes_from(axes, flips, data):
    array = np.random.default_rng(0).normal(size=(1, 3, 4, 5))
    view = oriented(array, axes, flips)[0]
    voxel = [data.draw(st.integers(0, size - 1)) for size in view.shape]
    i, j, k = (reorientation(axes, flips, array.shape[1:]) @ [*voxel, 1])[:3].astype(int)
    assert array[0, i, j, k] == view[tuple(voxel)]


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_canonical_axes_run_right_front_and_up_and_slices_lie_along_the_last(slice_axis):
    affine = np.eye(4)
    affine[:3, :3] = [[0, -2, 0], [0, 0, 3], [4, 0, 0]]
    upright, _, _ = canonical(Volume(np.zeros((1, 5, 6, 7)), affine), slice_axis)
    world = [axis for axis in range(3) if axis != slice_axis] + [slice_axis]
    directions = upright.affine[:3, :3]
    np.testing.assert_allclose(directions[world, range(3)], np.array([2, 3, 4])[world])


def test_the_box_holds_what_is_above_the_minimum_of_any_channel():
    array = np.zeros((2, 6, 6, 6))
    array[0, 1, 2, 3] = array[1, 4, 2, 3] = 1
    assert content_box(array, crop=True) == ((1, 2, 3), (4, 1, 1))
    assert content_box(array, crop=False) == ((0, 0, 0), (6, 6, 6))
    assert content_box(array * 0, crop=True) == ((0, 0, 0), (6, 6, 6))
    assert content_box(array, crop=True, floors=[1.0, 0.5]) == ((4, 2, 3), (1, 1, 1))
    assert content_box(array, crop=True, floors=[1.0, 1.0]) == ((0, 0, 0), (6, 6, 6))


@given(
    axes=AXES,
    signs=FLIPS,
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3),
)
def test_axes_without_shear_are_those_of_nibabel(axes, signs, angles, spacing):
    affine = np.eye(4)
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()[:, axes] * np.where(signs, -1, 1)
    strengths = np.sort(np.abs(turned).ravel())
    assume(np.diff(strengths).min() > 1e-6)  # of two equal ones either may be first
    affine[:3, :3] = turned * spacing
    _, chosen, flips = canonical(Volume(np.zeros((1, 2, 3, 4)), affine))
    orientation = io_orientation(affine)
    assert chosen == tuple(int(np.flatnonzero(orientation[:, 0] == world)[0]) for world in range(3))
    assert flips == tuple(bool(orientation[axis, 1] < 0) for axis in chosen)


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [
        ((1.0, 1.0, 5.0), "axial"),
        ((1.0, 5.0, 1.5), "coronal"),
        ((3.0, 1.0, 1.0), "sagittal"),
        ((1.0, 1.0, 1.9), None),
        ((1.0, 4.0, 4.0), None),
    ],
)
def test_slices_lie_across_the_axis_of_the_longest_voxel_edge(spacing, plane):
    assert slice_plane(spacing) == plane


@pytest.mark.parametrize("degrees", [0, 12, 40])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SLA"])
def test_the_tilt_is_the_angle_to_the_nearest_axis_of_the_patient(degrees, codes):
    rotation = np.eye(4)
    rotation[:3, :3] = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    stored = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
        ),
        (4, 5, 6),
    )
    volume = Volume(np.zeros((1, 4, 5, 6)), rotation @ np.diag([1, 2, 3, 1]) @ stored)
    assert tilt_degrees(canonical(volume)[0].affine) == pytest.approx(degrees, abs=1e-4)


@given(shape=st.tuples(*[st.integers(1, 6)] * 3), axes=st.permutations(range(3)), seed=st.integers(0, 99))
def test_the_bounding_box_is_that_of_all_marked_voxels(shape, axes, seed):
    array = np.random.default_rng(seed).integers(0, 30, shape).transpose(axes)
    (expected,) = ndimage.find_objects((array == 7).astype(np.uint8)) or [None]
    assert bounding_box(array, lambda plane: plane == 7) == bounding_box(array == 7) == expected
    flat = array[:, :, 0]
    (expected,) = ndimage.find_objects((flat == 7).astype(np.uint8)) or [None]
    assert bounding_box(flat == 7) == expected
