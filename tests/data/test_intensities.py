"""Hounsfield units are known by the whole channel, other numbers are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.data.intensities import channel_values

SHAPE = (24, 24, 16)


def body(*, air=-1000.0, tissue=40.0, share=0.5, spread=30.0):
    random = np.random.default_rng(0)
    array = random.normal(tissue, spread, SHAPE)
    array[: int(SHAPE[0] * share)] = random.normal(air, 15, array[: int(SHAPE[0] * share)].shape)
    return array


@pytest.mark.parametrize(
    "channel",
    [
        np.rint(body()).astype(np.int16),
        np.rint(body()).astype(np.float32),
        body().astype(np.float32),  # resampled: no whole numbers
        np.rint(body(share=0.05)).astype(np.int16),
        np.where(np.indices(SHAPE)[1] == 0, -3024, np.rint(body())).astype(np.int32),
        np.rint(body(tissue=-700, share=0)).astype(np.int16),  # nothing but lung
        np.where(np.indices(SHAPE)[1] < 3, -2000, np.rint(body(tissue=-300, share=0, spread=100))).astype(np.int16),
    ],
)
def test_hounsfield_units(channel):
    values = channel_values(channel)
    assert values.hounsfield
    assert not values.shifted


@pytest.mark.parametrize(
    "channel",
    [
        np.random.default_rng(1).gamma(2, 200, SHAPE),
        np.rint(body(air=3, tissue=300, spread=120)).clip(0).astype(np.int16),
        np.random.default_rng(1).normal(0, 1, SHAPE),
        np.random.default_rng(1).integers(-4096, 4096, SHAPE, dtype=np.int16),  # phase images
        np.random.default_rng(1).normal(0, 900, SHAPE),
        np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8),
        np.zeros(SHAPE, np.uint8),
        np.full(SHAPE, np.nan, np.float32),
    ],
)
def test_other_numbers(channel):
    values = channel_values(channel)
    assert not values.hounsfield
    assert not values.shifted


def test_shifted_hounsfield_units():
    array = np.rint(body(air=-1000) + 1024).clip(0, 4095).astype(np.uint16)
    array[-1, :3] = 1800
    values = channel_values(array)
    assert values.shifted
    assert not values.hounsfield


def test_extremes_are_exact_in_a_large_channel():
    array = np.zeros((80, 80, 80), np.int16)
    array[3, 5, 7], array[70, 1, 2] = -512, 900
    values = channel_values(array)
    assert (values.lowest, values.highest) == (-512, 900)
