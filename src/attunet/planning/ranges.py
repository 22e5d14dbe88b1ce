"""How far the images of a training differ from each other: what later scans are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from attunet.config import ChannelRanges, ImageRanges
from attunet.data.intensities import ValueSpread
from attunet.data.orientation import PLANES, slice_plane
from attunet.data.volume import Array
from attunet.planning.fingerprint import Fingerprint

__all__ = ["image_ranges"]

MOST_INTENSITY = 1e30
"""What a plan can hold; a few images have greater values, in voxels that mean nothing."""


def image_ranges(fingerprint: Fingerprint) -> ImageRanges:
    """The smallest and the largest size, spacing, field of view and intensities of the cases.

    A single case sets them: whoever trains on a scan means the model to know such scans.
    """
    planes = {slice_plane(case.spacing) for case in fingerprint.cases}
    spreads = zip(*(case.spreads for case in fingerprint.cases), strict=True)
    return ImageRanges(
        shape=_axes(fingerprint.shapes, int),
        spacing=_axes(fingerprint.spacings, _rounded),
        extent=_axes(fingerprint.shapes * fingerprint.spacings, _rounded),
        planes=tuple(plane for plane in PLANES if plane in planes),
        tilt=round(max(case.tilt for case in fingerprint.cases), 2),
        channels=tuple(map(_channel, spreads)),
    )


def _channel(spreads: Iterable[ValueSpread]) -> ChannelRanges:
    """The ranges of one channel, from its values in each case."""
    spreads = list(spreads)
    return ChannelRanges(
        low=_span(spread.low for spread in spreads),
        high=_span(spread.high for spread in spreads),
        width=_span(spread.width for spread in spreads),
        below_zero=_span(spread.below_zero for spread in spreads),
        median_place=_span(spread.median_place for spread in spreads),
        distinct=min(spread.distinct for spread in spreads),
    )


def _axes(values: Array, convert: Callable[[float], Any]) -> Any:
    """The span of (cases, 3) along each axis."""
    spans = zip(values.min(axis=0), values.max(axis=0), strict=True)
    return tuple((convert(low), convert(high)) for low, high in spans)


def _span(values: Iterable[float]) -> tuple[float, float]:
    known = np.clip(list(values), -MOST_INTENSITY, MOST_INTENSITY)
    return _rounded(known.min()), _rounded(known.max())


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
