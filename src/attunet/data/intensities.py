"""What the values of a channel say: of its units, such as Hounsfield units, and of how they are distributed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attunet.data.volume import Array

__all__ = ["ChannelValues", "ValueSpread", "channel_values", "evenly_spaced", "value_spread"]

SAMPLES = 200_000
AIR = (-1100.0, -900.0)
"""Hounsfield units of air, and of the margin that some scanners write around the field of view."""
LEAST_AIR = 0.005
LEAST_AIR_OF_FRACTIONS = 0.02
HIGHEST_CT = 32767.0
HIGHEST_SHIFTED = 8192.0
NEGATIVE = -200.0
SOFT_TISSUE = (900.0, 1200.0)
"""Fat to muscle in Hounsfield units + 1024."""
SPREAD = (0.5, 99.5)
"""Percentiles between which the values of a `ValueSpread` lie: single bright voxels do not count, nor does ringing."""
COUNTED = 20_000
"""Voxels, about, whose distinct values are counted."""


@dataclass(frozen=True)
class ChannelValues:
    """The values of one channel of a whole image, from an evenly spaced sample; extremes are exact.

    Args:
        lowest, highest: extremes of the finite values; 0 when there is none.
        floor: the lowest value, except for a margin of a single value below -1100.
        whole: whether the values are whole numbers.
        air: share of the values around -1000.
        dense: share of the values around +1000, as common as those around -1000 where values are symmetrical.
        dark: share of the values from 0 to 100.
        soft_tissue: share of soft tissue in Hounsfield units + 1024 among the values above 300.
    """

    lowest: float
    highest: float
    floor: float
    whole: bool
    air: float
    dense: float
    dark: float
    soft_tissue: float

    @property
    def hounsfield(self) -> bool:
        """Whether the values look like Hounsfield units: negative, and with air at about -1000 or whole numbers."""
        if self.lowest > NEGATIVE or self.highest > HIGHEST_CT or self.lowest < -HIGHEST_CT - 1:
            return False
        air = self.air > 3 * self.dense and self.air >= (LEAST_AIR if self.whole else LEAST_AIR_OF_FRACTIONS)
        return air or (self.whole and AIR[0] <= self.floor <= NEGATIVE)

    @property
    def shifted(self) -> bool:
        """Whether the values look like Hounsfield units + 1024: air at 0, most of the rest soft tissue at 1000."""
        usual = self.whole and self.lowest >= 0 and SOFT_TISSUE[1] < self.highest <= HIGHEST_SHIFTED
        return usual and self.dark >= LEAST_AIR and self.soft_tissue >= 0.5


def channel_values(channel: Array) -> ChannelValues:
    """Describe the values of a channel (I, J, K)."""
    flat = channel.ravel(order="K")
    sample = flat[:: max(1, flat.size // SAMPLES)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return ChannelValues(0.0, 0.0, 0.0, False, 0.0, 0.0, 0.0, 0.0)
    bright = sample[sample > 300]
    lowest, highest = float(np.fmin.reduce(flat)), float(np.fmax.reduce(flat))
    lowest, highest = (lowest, highest) if np.isfinite([lowest, highest]).all() else (sample.min(), sample.max())
    inside = sample[sample > lowest] if lowest < AIR[0] else sample[:0]
    return ChannelValues(
        lowest=float(lowest),
        highest=float(highest),
        floor=float(inside.min()) if inside.size else float(lowest),
        whole=bool((sample == np.rint(sample)).all()),
        air=_share(sample, *AIR),
        dense=_share(sample, -AIR[1], -AIR[0]),
        dark=_share(sample, 0, 100),
        soft_tissue=_share(bright, *SOFT_TISSUE) if bright.size else 0.0,
    )


def _share(values: Array, low: float, high: float) -> float:
    return round(float(((values >= low) & (values <= high)).mean()), 4)


@dataclass(frozen=True)
class ValueSpread:
    """How the values of one channel are distributed, from an evenly spaced sample of the image's content.

    Args:
        low, high: the percentiles `SPREAD`.
        middle: the median of the values above the lowest, which is that of margins and of masked background.
        distinct: number of distinct values among about `COUNTED` voxels.
    """

    low: float
    high: float
    middle: float
    distinct: int

    @property
    def width(self) -> float:
        """From the lower to the upper percentile; 0 for an image of, in effect, one value."""
        return self.high - self.low

    @property
    def below_zero(self) -> float:
        """The share of the range, from 0 to 1, that is negative: 0 for most MR, about a half for a CT."""
        return min(1.0, max(0.0, -self.low / self.width)) if self.width > 0 else 0.0

    @property
    def median_place(self) -> float:
        """Where in the range the median lies, from 0 to 1: low for bright structures on a dark ground."""
        return min(1.0, max(0.0, (self.middle - self.low) / self.width)) if self.width > 0 else 0.0


def evenly_spaced(channel: Array) -> Array:
    """About `SAMPLES` voxels of a channel, on a coarser grid. Args: (I, J, K). Returns: a view with three axes."""
    every = max(1, round((channel.size / SAMPLES) ** (1 / 3)))
    return channel[::every, ::every, ::every]


def value_spread(channel: Array) -> ValueSpread:
    """Describe the distribution of the values of a channel (I, J, K), without reading all of them."""
    sample = evenly_spaced(channel).ravel().astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return ValueSpread(0.0, 0.0, 0.0, 0)
    low, high = np.percentile(sample, SPREAD)
    shown = sample[sample > sample.min()]
    middle = np.median(shown) if shown.size else low
    distinct = np.unique(sample[:: max(1, sample.size // COUNTED)]).size
    return ValueSpread(float(low), float(high), float(middle), int(distinct))
