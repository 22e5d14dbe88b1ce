"""Whether a scan resembles those that a model was trained on: spacing, orientation, field of view and intensities.

A network answers every scan with a mask, also those that it cannot know. What lies outside of the training's
fingerprint is told with the result; nothing is refused here, because a model may well cope.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from attunet.config import ChannelRanges, FingerprintSummary, Normalization, Plan
from attunet.data.intensities import ValueSpread, evenly_spaced, value_spread
from attunet.data.orientation import canonical, slice_plane, tilt_degrees
from attunet.data.volume import Array, Volume
from attunet.names import listed

__all__ = ["unfamiliar"]

FINER, COARSER = 2.0, 1.5
"""Factors by which a spacing may be outside of the training's: detail can be removed, but not added."""
SMALLER, LARGER = 2.0, 2.0
"""Factors by which a field of view may be outside of the training's."""
TILTED = 20.0
"""Degrees by which a scan may be tilted more than those of the training."""
REACH = 0.25
"""Share of the training's widest range of intensities by which those of a scan may end elsewhere, on a fixed scale."""
NARROW = 0.25
"""Share of the training's narrowest range of intensities that those of a scan span at least, on a fixed scale."""
NEGATIVE = 0.1
"""By how much the share of a range that is negative may differ from that of the training."""
SHIFTED = 0.2
"""By how much the place of the median within the range may differ from that of the training."""
HANDFUL = 16
"""Most distinct values of what may be a mask rather than an image."""
LEAST_SHARE = 0.005
"""Least share of the voxels within the range of the training's labelled voxels, which is 99% of those."""
OUTSIDE = "outside of what the model was trained on"
STRANGE = "of another kind than those of the training"
_AXES = ("from left to right", "from back to front", "from foot to head")
Box = tuple[slice, slice, slice]
Span = tuple[float, float]


@dataclass(frozen=True)
class _Usual:
    """What sizes are usual.

    Args:
        spacing: smallest and largest voxel size in mm along each canonical axis.
        extent: smallest and largest field of view in mm.
        planes: planes of slices that occur; none where voxels are about as long as wide.
        tilt: largest angle to the patient's axes in degrees.
        finer, coarser: factors by which a spacing may lie outside.
        smaller, larger: factors by which a field of view may lie outside.
    """

    spacing: Sequence[Span]
    extent: Sequence[Span]
    planes: Sequence[str]
    tilt: float
    finer: float
    coarser: float
    smaller: float
    larger: float


def unfamiliar(volume: Volume, content: Box, plan: Plan) -> tuple[str, ...]:
    """In which ways an image differs from those of the training.

    Args:
        volume: the image as it was read.
        content: the box of its content, on its grid.
        plan: the plan of the model, with the fingerprint of the training.
    Returns: a warning for each; none for an image like those of the training, nor where nothing is known of them.
    """
    if not plan.fingerprint.cases:  # weights of another program: its spacing and shape are assumptions
        return ()
    inside = volume.array[(slice(None), *content)]
    upright = canonical(Volume(inside, volume.affine))[0]
    measured = volume.calibrated and plan.modality != "image"  # pictures come in all sizes, many without a true scale
    return (*(_geometry if measured else _size)(upright, plan.fingerprint), *_intensities(inside, plan))


def _size(volume: Volume, known: FingerprintSummary) -> Iterator[str]:
    """Whether an image without a scale is small; large ones are usual, such as slides for a model of tiles."""
    if known.ranges is None:
        return
    least = [low for low, _ in known.ranges.shape]
    if any(1 < size < low / SMALLER for size, low in zip(volume.spatial_shape, least, strict=True)):
        here, there = ("x".join(map(str, shape)) for shape in (volume.spatial_shape, least))
        yield f"this image is smaller than what the model was trained on: {here} voxels (usually at least {there})"


def _usual(known: FingerprintSummary) -> _Usual:
    """The ranges of the training; in plans of earlier versions there are medians only, with more room around them."""
    if known.ranges is not None:
        found = known.ranges
        return _Usual(found.spacing, found.extent, found.planes, found.tilt, FINER, COARSER, SMALLER, LARGER)
    spacing = [(step, step) for step in known.median_spacing]
    extent = [(step * size, step * size) for step, size in zip(known.median_spacing, known.median_shape, strict=True)]
    plane = slice_plane(known.median_spacing)
    return _Usual(spacing, extent, [plane] if plane else [], 90.0, 2.0, 2.0, 3.0, 5.0)


def _geometry(volume: Volume, known: FingerprintSummary) -> Iterator[str]:
    """What is unusual about spacing, direction of the slices, and field of view."""
    usual, spacing = _usual(known), volume.spacing
    axes = [axis for axis in range(3) if volume.spatial_shape[axis] > 1 and known.median_shape[axis] > 1]
    extent = [step * size for step, size in zip(spacing, volume.spatial_shape, strict=True)]

    def outside(values: Sequence[float], spans: Sequence[Span], low: float, high: float, digits: str) -> list[str]:
        """The axes along which a value is below the span by more than one factor, or above it by the other."""
        odd = [axis for axis in axes if not spans[axis][0] / low <= values[axis] <= spans[axis][1] * high]
        return [f"{values[axis]:{digits}} mm {_AXES[axis]} ({_usually(spans[axis], digits)} mm)" for axis in odd]

    if odd := outside(spacing, usual.spacing, usual.finer, usual.coarser, ".3g"):
        yield f"this scan's spacing is {OUTSIDE}: {listed(odd)}"
    plane = slice_plane(spacing) if len(axes) == 3 else None
    if plane and usual.planes and plane not in usual.planes:
        yield f"this scan has {plane} slices, those of the training were {listed(usual.planes)}"
    tilt = tilt_degrees(volume.affine)
    if tilt > usual.tilt + TILTED:
        yield f"this scan is tilted by {tilt:.0f}° against the patient's axes (usually at most {usual.tilt:.0f}°)"
    if odd := outside(extent, usual.extent, usual.smaller, np.inf, ".0f"):
        yield f"this scan's field of view is smaller than what the model was trained on: {listed(odd)}"
    if odd := outside(extent, usual.extent, np.inf, usual.larger, ".0f"):
        yield f"this scan's field of view is larger than what the model was trained on: {listed(odd)}"


def _intensities(array: Array, plan: Plan) -> Iterator[str]:
    """What is unusual about the values of each channel; one warning for all channels of which the same is true."""
    ranges = plan.fingerprint.ranges
    found: dict[str, dict[str, str]] = {}
    for index, name in enumerate(plan.channel_names):
        normalization, told = plan.preprocessing.normalization[index], None
        if ranges is not None:
            told = _unlike_usual(value_spread(array[index]), ranges.channels[index], normalization.kind)
        if told is None and normalization.kind == "ct":
            signed = ranges is None and plan.modality == "ct"
            told = _unlike_labelled(array[index], normalization, signed=signed)
        if told is not None:
            found.setdefault(told[0], {})[name] = told[1]
    for what, details in found.items():
        figures = list(dict.fromkeys(details.values()))  # the channels of a grey picture are the same
        yield f"the intensities of {listed(list(details))} are {what}: {listed(figures)}"


def _unlike_usual(spread: ValueSpread, usual: ChannelRanges, kind: str) -> tuple[str, str] | None:
    """How the values of a channel differ from those of the training, and the figures; None where they do not."""
    if spread.width == 0 and usual.width[0] > 0:
        return "almost all the same", f"{spread.middle:.4g}"
    if spread.distinct <= HANDFUL and 2 * spread.distinct < usual.distinct:
        return "few, as in a mask", f"{spread.distinct} distinct values (usually at least {usual.distinct})"
    # A channel that each image normalizes by itself may have any scale: only what does not depend on it counts.
    return _unlike_scale(spread, usual, clipped=kind == "ct") if kind != "zscore" else _unlike_kind(spread, usual)


def _unlike_scale(spread: ValueSpread, usual: ChannelRanges, *, clipped: bool) -> tuple[str, str] | None:
    """Of a channel on a fixed scale: whether its values end where those of the training did."""
    low, high = spread.low, spread.high
    if clipped:  # what lies beyond the values of the training is lost, such as the margin that some scanners write
        low, high = max(low, usual.low[0]), min(high, usual.high[1])
    room = REACH * usual.width[1]
    near = _within(low, usual.low, room) and _within(high, usual.high, room)
    if near and high - low >= NARROW * usual.width[0]:
        return None
    figures = f"{spread.low:.4g} to {spread.high:.4g} (usually {usual.low[0]:.4g} to {usual.high[1]:.4g})"
    shifted = clipped and spread.low >= 0 > usual.low[1]
    return OUTSIDE, f"{figures}; the rescale intercept may be missing, or it is no CT" if shifted else figures


def _unlike_kind(spread: ValueSpread, usual: ChannelRanges) -> tuple[str, str] | None:
    """Of a channel on any scale: whether its values are negative, and mostly low or high, as those of the training."""
    if not _within(spread.below_zero, usual.below_zero, NEGATIVE):
        known = _usually(usual.below_zero, ".0%")
        return STRANGE, f"{spread.below_zero:.0%} of their range is negative ({known})"
    if not _within(spread.median_place, usual.median_place, SHIFTED):
        known = _usually(usual.median_place, ".0%")
        return f"{STRANGE}, or inverted", f"their median lies at {spread.median_place:.0%} of their range ({known})"
    return None


def _unlike_labelled(channel: Array, known: Normalization, *, signed: bool) -> tuple[str, str] | None:
    """Of a CT: whether it has values that labelled voxels had, and, if it must be `signed`, any below 0."""
    sample = evenly_spaced(channel)
    share = float(np.mean((sample >= known.lower) & (sample <= known.upper)))
    if share < LEAST_SHARE:
        labelled = f"between {known.lower:.4g} and {known.upper:.4g}, as labelled voxels were"
        return OUTSIDE, f"{share:.1%} of the voxels are {labelled}"
    if signed and sample.min() >= 0:
        return "nowhere negative, as air is in Hounsfield units", "the rescale intercept may be missing"
    return None


def _within(value: float, span: Span, room: float) -> bool:
    return span[0] - room <= value <= span[1] + room


def _usually(span: Span, digits: str) -> str:
    """`usually 0.8 to 1.2`, or one number where both are the same."""
    low, high = (f"{value:{digits}}" for value in span)
    return f"usually {low}" if low == high else f"usually {low} to {high}"
