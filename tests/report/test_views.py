from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.volume import Volume
from attunet.report.views import PICTURE, PLANES, best_slice, canonicalise, cut, focus, is_raster, planes_of, window

AXIAL, CORONAL, SAGITTAL = PLANES
ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((-1, 1), repeat=3)]
SPACING = (1.0, 2.0, 3.0)


def stored(array: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """An R, A, S array written with other axes, its affine telling so."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    turned = array.transpose(order)
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * SPACING[world]
        if sign < 0:
            affine[world, 3] = SPACING[world] * (array.shape[world] - 1)
            turned = np.flip(turned, axis)
    return Volume(turned[None], affine)


@given(st.sampled_from(ORIENTATIONS))
def test_every_orientation_becomes_the_same_volume(way: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    canonical = canonicalise(stored(array, *way))
    assert canonical.orientation == "RAS"
    np.testing.assert_array_equal(canonical.array[0], array)
    np.testing.assert_allclose(canonical.affine, np.diag([*SPACING, 1.0]), atol=1e-12)


def test_radiological_sides() -> None:
    array = np.zeros((5, 6, 7), dtype=int)
    array[4, :, :] += 1
    array[:, 5, :] += 10
    array[:, :, 6] += 100
    axial, coronal, sagittal = cut(array, AXIAL, 0), cut(array, CORONAL, 0), cut(array, SAGITTAL, 0)
    assert axial.shape == (6, 5)
    assert (axial[0] >= 10).all(), "anterior is up"
    assert (axial[:, 0] % 10 == 1).all(), "the patient's right is at the left"
    assert coronal.shape == (7, 5)
    assert (coronal[0] >= 100).all(), "superior is up"
    assert (coronal[:, 0] % 10 == 1).all()
    assert sagittal.shape == (7, 6)
    assert (sagittal[0] >= 100).all()
    assert (sagittal[:, 0] % 100 == 10).all(), "anterior is at the left"


def test_a_picture_keeps_its_rows() -> None:
    pixels = np.arange(12).reshape(3, 4)
    picture = Volume.from_array(pixels, (0.5, 0.5))
    assert is_raster(picture)
    assert canonicalise(picture) is picture
    assert planes_of(picture) == (PICTURE,)
    np.testing.assert_array_equal(cut(picture.array[0], PICTURE, 0), pixels)
    assert PICTURE.extent((3, 4, 1), (1.0, 2.0, 1.0)) == (8.0, 3.0)
    assert PICTURE.aspect((1.0, 2.0, 1.0)) == 0.5


def test_a_slice_of_a_scan_is_no_picture() -> None:
    volume = Volume(np.zeros((1, 6, 5, 1)), np.diag([-1.0, -1.0, 3.0, 1.0]))
    assert not is_raster(volume)
    assert not is_raster(canonicalise(volume))
    assert planes_of(volume) == (AXIAL,)
    sideways = Volume(np.zeros((1, 6, 5, 1)), np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]))
    assert planes_of(sideways) == (SAGITTAL,)


def test_planes_know_their_size() -> None:
    assert CORONAL.extent((10, 20, 30), SPACING) == (10.0, 90.0)
    assert CORONAL.aspect(SPACING) == 3.0


def test_the_slice_with_most_of_the_mask() -> None:
    mask = np.zeros((5, 5, 9), dtype=bool)
    assert best_slice(mask, 2) == 4
    mask[0, 0, 1] = True
    mask[:3, :3, 7] = True
    assert best_slice(mask, 2) == 7
    assert best_slice(mask, 0) == 0


def test_a_big_label_does_not_hide_a_small_one() -> None:
    mask = np.zeros((6, 6, 9), dtype=int)
    mask[:5, :5, 1] = 1
    mask[:4, :5, 6] = 1
    mask[5, 5, 6] = 2
    assert best_slice(mask, 2) == 6


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_all_three_planes_go_through_the_mask(seed: int, voxels: int) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros((6, 5, 4), dtype=np.uint8)
    mask[tuple(random.integers(0, mask.shape, (voxels, 3)).T)] = random.integers(1, 4, voxels)
    assert mask[focus(mask)] > 0
    assert focus(mask)[2] == best_slice(mask, 2)


def test_the_planes_of_an_empty_mask_meet_in_the_middle() -> None:
    assert focus(np.zeros((4, 5, 9), dtype=np.uint8)) == (2, 2, 4)


def test_the_sagittal_plane_is_the_largest_that_the_axial_one_meets() -> None:
    mask = np.zeros((9, 4, 9), dtype=bool)
    mask[1:4, :, 2] = True  # the axial slice with most
    mask[2, :, 2:6] = True
    mask[8, :, 4:9] = True  # larger, but out of its sight
    assert focus(mask)[::2] == (2, 2)


@pytest.mark.parametrize(
    ("array", "modality", "expected"),
    [
        (np.linspace(-1000, 1000, 50), "ct", (-160.0, 240.0)),
        (np.r_[np.zeros(900), np.linspace(100, 200, 101)], "mr", (101.0, 199.0)),
        (np.full(5, 7.0), "other", (0.0, 1.0)),
        (np.array([0.0, 3.0, 3.0, np.nan]), "other", (2.5, 3.5)),
    ],
)
def test_window(array: np.ndarray, modality: str, expected: tuple[float, float]) -> None:
    assert window(array, modality) == pytest.approx(expected)
