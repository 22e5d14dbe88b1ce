"""Hounsfield units are known by the whole channel, other numbers are not taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.data.intensities import channel_values, value_spread

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


def test_the_spread_of_values_is_that_of_all_of_them():
    array = np.random.default_rng(0).gamma(2, 100, (90, 80, 70))
    found = value_spread(array)
    assert found.low == pytest.approx(np.percentile(array, 0.5), rel=0.1)
    assert found.high == pytest.approx(np.percentile(array, 99.5), rel=0.05)
    assert found.middle == pytest.approx(np.median(array), rel=0.02)
    assert found.median_place == pytest.approx((found.middle - found.low) / found.width)
    assert found.distinct > 10_000


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_what_the_values_are_like_does_not_depend_on_their_scale(scale):
    channel = body(share=0.3)
    found, scaled = value_spread(channel), value_spread(scale * channel)
    assert scaled.below_zero == pytest.approx(found.below_zero)
    assert scaled.median_place == pytest.approx(found.median_place)
    assert 0.8 < found.below_zero <= 1
    assert value_spread(channel + 2000).below_zero == 0
    assert value_spread(-channel).median_place == pytest.approx(1 - found.median_place, abs=0.01)


def test_a_margin_of_one_value_does_not_move_the_median():
    array = np.random.default_rng(0).normal(500, 50, SHAPE)
    padded = np.pad(array, 8)
    assert value_spread(padded).middle == pytest.approx(np.median(array), rel=0.01)


@pytest.mark.parametrize("array", [np.full(SHAPE, 7.0), np.full(SHAPE, np.nan), np.zeros((1, 1, 1), np.uint8)])
def test_an_image_of_one_value_spreads_over_nothing(array):
    found = value_spread(array)
    assert (found.width, found.below_zero, found.median_place) == (0, 0, 0)
    assert found.distinct <= 1


def test_values_are_counted_as_they_are():
    assert value_spread(np.random.default_rng(0).integers(0, 5, (200, 200, 20))).distinct == 5
