"""Boundary zones and distances are scipy's, however small the box in which they are looked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation, distance_transform_edt

from attunet.data.volume import Volume
from attunet.errors import ConfigError, GeometryError
from attunet.explanation.scoring.organs import Organs, organs_of

STEPS = st.sampled_from([0.5, 0.7, 1.0, 2.0, 6.0])
SPACINGS = st.tuples(STEPS, STEPS, STEPS)
SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 9), st.integers(1, 6))
MASKS = SHAPES.flatmap(lambda shape: arrays(bool, shape)).filter(np.any)


def whole(organ, part, shape):
    """The organ's mask or zone on the whole grid."""
    full = np.zeros(shape, bool)
    full[organ.box] = part
    return full


@given(MASKS, SPACINGS, st.sampled_from([0.0, 0.5, 1.0, 2.1, 5.0]))
def test_the_zone_is_what_a_distance_transform_finds(mask, spacing, reach):
    organ = Organs.of({"organ": mask}, spacing, reach=reach).organs["organ"]
    boundary = mask & binary_dilation(~mask)
    expected = np.zeros_like(mask)
    if boundary.any():
        expected = distance_transform_edt(~boundary, sampling=spacing) <= reach + 1e-6
    np.testing.assert_array_equal(whole(organ, organ.zone, mask.shape), expected)
    np.testing.assert_array_equal(whole(organ, organ.mask, mask.shape), mask)
    assert (organ.voxels, organ.zone_voxels) == (mask.sum(), expected.sum())


@given(MASKS, SPACINGS)
def test_distances_are_those_of_a_distance_transform(mask, spacing):
    organ = Organs.of({"organ": mask}, spacing, reach=0).organs["organ"]
    places = np.argwhere(np.ones_like(mask))
    expected = distance_transform_edt(~mask, sampling=spacing).ravel()
    np.testing.assert_allclose(organ.distances(places), expected, atol=1e-9)


EDGES = np.array([[1.0, 0, 0.4], [0, 1.5, 0.9], [0, 0, 2]])


@given(MASKS, st.sampled_from([0.5, 1.0, 2.1, 5.0]))
def test_zone_and_distances_on_a_sheared_grid_are_those_of_the_affine(mask, reach):
    organ = Organs.of({"organ": mask}, EDGES, reach=reach).organs["organ"]
    places, boundary = np.argwhere(np.ones_like(mask)), mask & binary_dilation(~mask)
    for found, targets in ((whole(organ, organ.zone, mask.shape).ravel(), boundary), (organ.distances(places), mask)):
        to = np.argwhere(targets) @ EDGES.T
        apart = np.linalg.norm((places @ EDGES.T)[:, None] - to[None], axis=-1).min(1, initial=np.inf)
        np.testing.assert_allclose(found, apart <= reach + 1e-6 if found.dtype == bool else apart, atol=1e-9)


def test_what_is_ignored_is_neither_organ_nor_zone_nor_boundary():
    mask, ignored = np.zeros((12, 12, 12), bool), np.zeros((12, 12, 12), bool)
    mask[3:9, 3:9, 3:9], ignored[6:] = True, True
    organs = Organs.of({"organ": mask}, (1, 1, 1), ignored=ignored, reach=1)
    organ = organs.organs["organ"]
    assert organ.voxels == 3 * 6 * 6
    zone = whole(organ, organ.zone, mask.shape)
    assert not (zone & ignored).any()
    assert not zone[5, 5, 5], "the cut through the organ is no boundary"
    assert organs.counted.sum() == 6 * 12 * 12


def test_organs_come_from_a_reference_as_evaluation_takes_them():
    array = np.zeros((1, 6, 5, 4), np.uint8)
    array[0, 1:3], array[0, 3], array[0, 4], array[0, 5] = 1, 2, 3, 9
    reference = Volume(array, np.diag([1.0, 2.0, 3.0, 1.0]))
    content = (slice(1, 6), slice(0, 5), slice(1, 4))
    labels = {"background": 0, "liver": 1, "all": (1, 2), "kidney": 3, "absent": 4, "undrawn": 5}
    drawn = ("liver", "all", "kidney", "absent")
    organs = organs_of(reference, labels, content, ignore=9, annotated=drawn)
    voxels = {name: organ and organ.voxels for name, organ in organs.organs.items()}
    assert voxels == {"liver": 30, "all": 45, "kidney": 15, "absent": None}
    assert organs.shape == (5, 5, 3)
    assert organs.counted.sum() == 4 * 5 * 3
    assert organs_of(reference, labels, content, annotated=()) is None


def test_organs_of_several_grids_are_refused():
    masks = {"one": np.ones((2, 2, 2), bool), "other": np.ones((2, 2, 3), bool)}
    with pytest.raises(GeometryError, match="shapes"):
        Organs.of(masks, (1, 1, 1))
    with pytest.raises(GeometryError, match="organs of shapes"):
        Organs.of({}, (1, 1, 1))
    with pytest.raises(ConfigError, match="-1 mm"):
        Organs.of({"one": masks["one"]}, (1, 1, 1), reach=-1)
