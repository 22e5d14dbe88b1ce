"""Orders of voxels, and what is put in the place of the first of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from attunet.explanation.interventions.perturbation import blobs, blurred, mixed, voxel_order

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
SEEDS = st.integers(0, 2**32 - 1)


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@given(SHAPES, SEEDS, st.integers(1, 5))
def test_a_ranking_holds_every_voxel_once_the_highest_first(shape, seed, levels):
    random = np.random.default_rng(seed)
    alpha, ties = random.integers(levels, size=shape).astype(np.float32), noise(shape, seed)
    order = voxel_order(alpha, ties)
    assert sorted(order) == list(range(alpha.size))
    pairs = list(zip(-alpha.ravel()[order], -ties.ravel()[order], strict=True))
    assert pairs == sorted(pairs)


def test_a_constant_map_ranks_as_the_blobs_do():
    field = noise((6, 5, 4))
    uneven = np.full_like(field, 0.5) + np.float32(1e-7) * noise(field.shape, 1)  # as stitching leaves it
    np.testing.assert_array_equal(voxel_order(uneven, field), voxel_order(np.full_like(field, 0.1), field))
    assert (np.diff(field.ravel()[voxel_order(uneven, field)]) <= 0).all()


@given(SHAPES, SEEDS, st.floats(0, 1))
def test_a_share_comes_from_the_other_image_in_all_channels(shape, seed, share):
    image, other, field = np.zeros((2, *shape), np.float32), np.ones((2, *shape), np.float32), noise(shape, seed)
    result = mixed(image, other, np.argsort(-field, axis=None), share)
    np.testing.assert_array_equal(result[0], result[1])
    taken = result[0] == 1
    assert taken.sum() == round(share * field.size)
    if taken.any() and not taken.all():
        assert field[taken].min() >= field[~taken].max()
    assert not image.any()


@pytest.mark.parametrize("shape", [(2, 40, 48, 24), (1, 90, 60, 1)])
def test_the_blurred_image_is_a_gaussian_of_an_eighth(shape):
    grid = np.indices(shape[1:]).sum(axis=0)
    image = (noise(shape) + np.sin(grid / 9)).astype(np.float32)
    found = blurred(image)
    assert found.shape == shape
    assert found.dtype == np.float32
    sigma = [0, *(size / 8 if size > 1 else 0 for size in shape[1:])]
    expected = ndimage.gaussian_filter(image, sigma, mode="reflect")
    assert np.abs(found - expected).max() < 0.03 * image.std()
    assert found.std() < image.std() / 2


@pytest.mark.parametrize("sigma", [1.0, (1.0, 2.0, 3.0)])
def test_blobs_are_as_coarse_as_the_map(sigma):
    like = ndimage.gaussian_filter(noise((48, 48, 48)), sigma, mode="wrap")
    found = blobs(like, np.random.default_rng(3))
    for axis in range(3):
        steps = [np.square(np.diff(field, axis=axis)).mean() / field.var() for field in (like, found)]
        assert steps[0] == pytest.approx(steps[1], rel=0.25)
    assert abs(np.corrcoef(like.ravel(), found.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("like", [np.full((8, 8, 1), 0.5, np.float32), noise((9, 9, 1)), np.indices((8, 6, 4))[0] % 2])
def test_blobs_of_any_map_are_finite_and_vary(like):
    found = blobs(like.astype(np.float32), np.random.default_rng(0))
    assert np.isfinite(found).all()
    assert found.shape == like.shape
    assert found.min() == 0
    assert len(np.unique(found)) == found.size
