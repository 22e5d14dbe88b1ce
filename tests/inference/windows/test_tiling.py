"""Windows in order along one axis: whatever lies behind a group is finished."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.inference.windows.tiling import Tiling, least_content_height, without_air

triples = st.tuples(*[st.integers(1, 30)] * 3)


@given(shape=triples, patch=triples, step=st.floats(0.2, 1), axes=st.permutations(range(3)), most=st.integers(1, 9),
       left_out=st.sets(st.integers(0, 500)), low=st.integers(0, 29), width=st.integers(1, 30))  # fmt: skip
def test_every_window_of_a_band_is_in_one_group_and_no_later_one_touches_what_is_done(
    shape, patch, step, axes, most, left_out, low, width
):
    axes = tuple(axes)
    whole = Tiling.of(shape, patch, step, axes)
    assert len(list(whole)) == len(whole)
    tiling = whole.without(start for index, start in enumerate(whole) if index in left_out)
    assert len(list(tiling)) == len(tiling)
    band = slice(min(low, shape[axes[1]] - 1), min(low + width, shape[axes[1]]))
    groups = tiling.groups(band, most)
    found = [start for group in groups for start in group.starts]
    edge = patch[axes[1]]
    assert found == [one for one in tiling if one[axes[1]] < band.stop and one[axes[1]] + edge > band.start]
    assert groups[-1].done == shape[axes[0]]
    before = 0
    for group in groups:
        assert group.done > before
        assert all(start[axes[0]] >= before or start[axes[0]] < 0 for start in group.starts)
        ends = [min(start[axes[0]] + patch[axes[0]], shape[axes[0]]) for start in group.starts]
        assert max([*ends, group.done]) - before <= tiling.depth(groups)
        before = group.done


def test_a_small_grid_has_one_window_that_reaches_beyond_it_evenly():
    tiling = Tiling.of((5, 30, 9), (8, 10, 9), 1.0)
    assert tiling.starts == ((-1,), (0, 10, 20), (0,))
    assert tiling.axes == (1, 2, 0)


def test_windows_follow_the_longest_axis_so_that_little_is_held():
    assert Tiling.of((100, 200, 90), (20, 20, 20), 0.5).axes == (1, 0, 2)
    assert Tiling.of((100, 200, 9), (20, 20, 1), 0.5).axes == (1, 2, 0)


def test_rows_of_few_windows_are_joined_and_left_out_ones_do_not_make_them_thicker():
    tiling = Tiling.of((100, 10, 10), (10, 10, 10), 0.5)
    whole = slice(0, 10)
    assert len(tiling.groups(whole, 1)) == len(tiling) == 19
    assert [len(group.starts) for group in tiling.groups(whole, 4)] == [4, 4, 4, 4, 3]
    assert tiling.depth(tiling.groups(whole, 4)) == 25
    gap = tiling.without(start for start in tiling if 20 < start[0] < 80)
    assert gap.depth(gap.groups(whole, 4)) <= 25
    assert np.diff([group.done for group in gap.groups(whole, 1)][:-1]).max() == 5


AIR_TILING = Tiling.of((40, 12, 12), (8, 12, 12), 0.5)


def image(height=5.0, noise=0.1):
    array = np.random.default_rng(0).uniform(-1, -1 + noise, (1, 40, 12, 12)).astype(np.float32)
    array[0, 17, 3, 5] = height - 1  # a single voxel, between those that are sampled
    return array


def test_a_window_with_a_single_voxel_of_content_is_run():
    kept = without_air(AIR_TILING, image(), 0.2)
    assert [start[0] for start in kept] == [12, 16]
    assert without_air(AIR_TILING, image(), None) == AIR_TILING
    assert len(without_air(AIR_TILING, image(), 0.01)) == len(AIR_TILING)


def test_any_channel_may_show_content():
    both = np.concatenate([image(), np.flip(image(), 1)])  # the other voxel lies at 22
    assert [start[0] for start in without_air(AIR_TILING, both, 0.2)] == [12, 16, 20]


def test_of_nothing_but_air_one_window_is_run():
    assert len(without_air(AIR_TILING, image(height=0.05), 0.2)) == 1


def test_the_least_content_height_is_the_least_of_windows_with_a_label():
    label = np.zeros((40, 12, 12), np.uint8)
    assert least_content_height(image(), label, AIR_TILING) == np.inf
    label[17, 3, 5] = 2
    assert least_content_height(image(), label, AIR_TILING) == pytest.approx(5, abs=0.1)
    label[30, 0, 0] = 1
    assert least_content_height(image(), label, AIR_TILING) == pytest.approx(0.1, abs=0.02)
