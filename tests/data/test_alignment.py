"""Grids that match, that do not, and labels brought onto their image."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from attunet.data.alignment import align_label, check_same_grid, common_grid, grid_distance
from attunet.data.volume import Volume
from attunet.errors import GeometryError

FLIPS = list(product(permutations(range(3)), product([False, True], repeat=3)))


def oblique(angles: tuple[float, float, float] = (0.3, -0.5, 1.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() * [0.7, 0.8, 2.5]
    affine[:3, 3] = [-100.3, 20.7, 33.1]
    return affine


def reoriented(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same voxels at the same places, axes permuted and flipped."""
    mapping = np.eye(4)
    mapping[:3, :3] = np.eye(3)[:, order]
    array = volume.array.transpose(0, *(axis + 1 for axis in order))
    for axis, flip in enumerate(flips):
        if flip:
            undo = np.eye(4)
            undo[axis, axis], undo[axis, 3] = -1, array.shape[axis + 1] - 1
            array, mapping = np.flip(array, axis + 1), mapping @ undo
    return Volume(array, volume.affine @ mapping)


@settings(max_examples=60, deadline=None)
@given(
    turn=st.sampled_from(FLIPS),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    seed=st.integers(0, 99),
)
def test_resampling_undoes_any_orientation_exactly(turn, shape, angles, seed):
    array = np.random.default_rng(seed).integers(1, 5, (1, *shape)).astype(np.uint8)
    image = Volume(array, oblique(angles))
    label = reoriented(image, *turn)
    aligned = align_label(label, image, "case", geometry="resample")
    np.testing.assert_array_equal(aligned.array, array)
    np.testing.assert_array_equal(aligned.affine, image.affine)


def test_an_affine_rounded_to_float32_still_undoes_a_flip_exactly():
    image = Volume(np.random.default_rng(0).integers(1, 5, (1, 40, 50, 60)).astype(np.uint8), oblique())
    label = reoriented(image, (0, 1, 2), (False, True, False))
    rounded = Volume(label.array, label.affine.astype(np.float32))
    np.testing.assert_array_equal(align_label(rounded, image, "x", geometry="resample").array, image.array)


def test_within_the_tolerance_the_label_takes_the_images_affine():
    image, shifted = np.eye(4), np.eye(4)
    shifted[0, 3] = 0.09
    label = Volume(np.ones((1, 3, 3, 3), np.uint8), shifted)
    aligned = align_label(label, Volume(np.ones((1, 3, 3, 3)), image), "x")
    np.testing.assert_array_equal(aligned.affine, image)


def test_distance_is_measured_at_the_corners():
    stretched = Volume.from_array(np.ones((101, 2, 2)), (1.01, 1, 1))
    assert grid_distance(Volume.from_array(np.ones((101, 2, 2))), stretched) == pytest.approx(1.0)


def test_failing_names_case_difference_and_ways_out():
    image = Volume.from_array(np.ones((4, 5, 6)))
    flipped = reoriented(Volume.from_array(np.ones((4, 5, 6), np.uint8)), (0, 1, 2), (True, False, False))
    with pytest.raises(GeometryError, match=r"case_7.*LAS and RAS") as caught:
        align_label(flipped, image, "case_7")
    assert "copy-affine" in caught.value.hint
    with pytest.raises(GeometryError, match="shape") as caught:
        align_label(Volume.from_array(np.ones((4, 5, 7), np.uint8)), image, "case_7")
    assert "copy-affine" not in caught.value.hint


def test_copying_the_affine_keeps_the_voxels_and_needs_the_same_shape():
    image = Volume(np.ones((1, 3, 4, 5)), oblique())
    label = Volume.from_array(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    aligned = align_label(label, image, "x", geometry="copy-affine")
    np.testing.assert_array_equal(aligned.array, label.array)
    with pytest.raises(GeometryError, match="cannot be copied"):
        align_label(Volume.from_array(np.ones((3, 4, 6), np.uint8)), image, "x", geometry="copy-affine")


def test_resampling_between_spacings_takes_the_nearest_voxel():
    label = Volume.from_array(np.array([1, 2, 3], np.uint8).reshape(3, 1, 1))
    fine = Volume(np.ones((1, 9, 1, 1)), np.diag([1 / 3, 1, 1, 1]))
    aligned = align_label(label, fine, "x", geometry="resample").array.ravel()
    np.testing.assert_array_equal(aligned, [1, 1, 2, 2, 2, 3, 3, 3, 0])


def test_a_label_outside_of_the_image_is_refused():
    far = np.eye(4)
    far[:3, 3] = 1000
    with pytest.raises(GeometryError, match="inside the image"):
        align_label(
            Volume(np.ones((1, 3, 3, 3), np.uint8), far),
            Volume.from_array(np.ones((3, 3, 3))),
            "x",
            geometry="resample",
        )


def test_channels_on_other_grids_are_refused():
    with pytest.raises(GeometryError, match="t1 and t2"):
        check_same_grid(
            Volume.from_array(np.ones((3, 3))), Volume.from_array(np.ones((3, 4))), "t1 and t2", hint="resample"
        )


@pytest.mark.parametrize(("order", "flips"), FLIPS[::5])
def test_a_common_grid_holds_the_voxels_of_both(order, flips):
    affine = oblique()
    shift = np.eye(4)
    shift[:3, 3] = [2, -3, 1]
    first = Volume(np.ones((1, 4, 5, 6), np.uint8), affine)
    second = reoriented(Volume(np.full((1, 3, 6, 4), 2, np.uint8), affine @ shift), order, flips)
    grid = common_grid(first, second)
    assert grid.spatial_shape == (5, 8, 6)
    for part, volume in ((1, first), (2, second)):
        placed = align_label(volume, grid, "p1", geometry="resample")
        assert np.count_nonzero(placed.array == part) == volume.array.size


def test_grids_that_are_no_parts_of_one_have_no_common_grid():
    first = Volume(np.ones((1, 4, 5, 6), np.uint8), oblique())
    shift = np.eye(4)
    shift[0, 3] = 0.4
    for affine in (oblique() @ shift, oblique((0.3, -0.5, 1.2)), oblique() @ np.diag([2, 1, 1, 1])):
        assert common_grid(first, Volume(first.array, affine)) is None
