import numpy as np
import pytest

from attunet.data.coarse_map import CoarseMap
from attunet.training.patches.context import ContextChanges

SHAPE, SIZE, START = (24, 24, 16), (8, 8, 8), (10, 4, 2)


@pytest.fixture
def coarse_map():
    """Probabilities that differ from voxel to voxel, on a grid that is coarser by two."""
    return CoarseMap(np.random.default_rng(0).random((2, 12, 12, 8)).astype(np.float32), SHAPE)


@pytest.fixture
def changed(coarse_map, tiny_plan, make_cascade, tiny_config):
    """Many draws of the context of one patch, at this rate."""

    def draw(rate, context=coarse_map, **plan):
        changes = ContextChanges(make_cascade(tiny_plan(**plan)), tiny_config(context_corruption=rate))
        size = (*SIZE[:2], 1) if plan.get("dims") == 2 else SIZE
        return [changes(context, START, size, np.random.default_rng(seed)) for seed in range(60)]

    return draw


def test_at_rate_zero_it_is_the_map(changed, coarse_map):
    assert all(np.array_equal(result, coarse_map.window(START, SIZE)) for result in changed(0.0))


def test_some_are_left_out_and_the_others_stay_probabilities_near_the_map(changed, coarse_map):
    results = changed(1.0)
    assert all(result.shape == (2, *SIZE) and result.dtype == np.float32 for result in results)
    assert all(0 <= result.min() <= result.max() <= 1 for result in results)
    empty = [not result.any() for result in results]
    assert 3 <= sum(empty) <= 24
    means = [result.mean() for result, nothing in zip(results, empty, strict=True) if not nothing]
    assert min(means) < coarse_map.values.mean() - 0.05  # narrower
    assert max(means) > coarse_map.values.mean() + 0.05  # wider


def test_the_rate_is_that_of_changed_patches(changed, coarse_map):
    kept = [np.array_equal(result, coarse_map.window(START, SIZE)) for result in changed(0.25)]
    assert 35 <= sum(kept) <= 55


def test_slices_of_a_2d_network_are_not_exchanged(changed):
    values = np.zeros((1, 12, 12, 16), np.float32)
    values[..., START[2]] = 1.0
    results = changed(1.0, CoarseMap(values, SHAPE), dims=2)
    assert all(result.all() or not result.any() for result in results)
    assert {bool(result.any()) for result in results} == {True, False}
