"""Normalization: mean and standard deviation of the foreground, whatever the layout in memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.config import Normalization
from attunet.data.normalization import mean_and_std, normalize

ZSCORE = Normalization(kind="zscore")


@given(
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    axes=st.permutations(range(3)),
    block=st.integers(1, 200),
    dtype=st.sampled_from((np.int16, np.uint8, np.float32, np.float64)),
)
def test_mean_and_std_are_those_of_the_voxels_above_the_minimum(shape, axes, block, dtype):
    channel = np.random.default_rng(0).integers(0, 60, shape).astype(dtype).transpose(axes)[::-1]
    mean, std = mean_and_std(channel, ZSCORE, block_voxels=block)
    content = channel[channel > channel.min()].astype(float)
    assert mean == pytest.approx(content.mean())
    assert std == pytest.approx(content.std() or 1, rel=1e-6)


def test_a_channel_without_contrast_becomes_zero():
    channel = np.full((2, 3, 4), 7, dtype=np.float32)
    assert mean_and_std(channel, ZSCORE) == (7.0, 1.0)
    normalize(channel, ZSCORE, 7.0, 1.0)
    assert not channel.any()


def test_given_figures_are_taken_and_ct_is_clipped_in_place():
    ct = Normalization(kind="ct", lower=-100, upper=200, mean=50, std=25)
    channel = np.array([[[-1000, 75, 3000]]], dtype=np.float32)
    assert mean_and_std(channel, ct) == (50, 25)
    normalize(channel, ct, 50, 25)
    assert channel.ravel().tolist() == [-6, 1, 6]
    normalize(channel, Normalization(kind="none"), 50, 25)
    assert channel.ravel().tolist() == [-6, 1, 6]
