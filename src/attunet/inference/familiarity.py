"""Whether a scan resembles those that a model was trained on: spacing, slices, field of view and intensities.

A network answers every scan with a mask, also those that it cannot know. What lies outside of the training's
fingerprint is told with the result; nothing is refused here, because a model may well cope.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from attunet.config import Plan
from attunet.data.orientation import canonical
from attunet.data.volume import Array, Volume
from attunet.names import listed

__all__ = ["unfamiliar"]

COARSER = 2.0
"""Factor by which a spacing may differ from the training's median: resampling then adds or removes half the detail."""
SMALLER, LARGER = 1 / 3, 5.0
"""Factors by which the field of view may differ from the training's median, which varies more between protocols."""
ANISOTROPIC = 2.0
"""Factor from which the slices of an image have a direction."""
LEAST_SHARE = 0.005
"""Least share of the voxels within the range of the training's labelled voxels, which is 99% of those."""
SAMPLED = 200_000
"""Voxels of a channel that are looked at, about."""
_AXES = ("from left to right", "from back to front", "from foot to head")
_PLANES = ("sagittal", "coronal", "axial")
Box = tuple[slice, slice, slice]


def unfamiliar(volume: Volume, content: Box, plan: Plan) -> tuple[str, ...]:
    """In which ways an image differs from those of the training.

    Args:
        volume: the image as it was read.
        content: the box of its content, on its grid.
        plan: the plan of the model, with the fingerprint of the training.
    Returns: a warning for each; none for an image like those of the training.
    """
    inside = volume.array[(slice(None), *content)]
    upright = canonical(Volume(inside, volume.affine))[0]
    measured = volume.calibrated and plan.modality != "image"  # pictures come in all sizes, many without a true scale
    return (*(_geometry(upright, plan) if measured else ()), *_intensities(inside, plan))


def _geometry(volume: Volume, plan: Plan) -> Iterator[str]:
    """What is unusual about spacing, direction of the slices, and field of view."""
    known, shape = plan.fingerprint.median_spacing, plan.fingerprint.median_shape
    axes = [axis for axis in range(3) if volume.spatial_shape[axis] > 1 and shape[axis] > 1]
    odd = [axis for axis in axes if not 1 / COARSER <= volume.spacing[axis] / known[axis] <= COARSER]
    if odd:
        steps = [f"{volume.spacing[axis]:.3g} mm {_AXES[axis]} (usually {known[axis]:.3g} mm)" for axis in odd]
        yield f"this scan's spacing is outside of what the model was trained on: {listed(steps)}"
    here, there = _plane(volume.spacing, axes), _plane(known, axes)
    if here and there and here != there:
        yield f"this scan has {here} slices, those of the training were {there}"
    extents = {axis: volume.spacing[axis] * volume.spatial_shape[axis] for axis in axes}
    usual = {axis: known[axis] * shape[axis] for axis in axes}
    smaller = [axis for axis in axes if extents[axis] < SMALLER * usual[axis]]
    larger = [axis for axis in axes if extents[axis] > LARGER * usual[axis]]
    for size, odd in (("smaller", smaller), ("larger", larger)):
        if odd:
            steps = [f"{extents[axis]:.0f} mm {_AXES[axis]} (usually {usual[axis]:.0f} mm)" for axis in odd]
            yield f"this scan's field of view is {size} than what the model was trained on: {listed(steps)}"


def _plane(spacing: Sequence[float], axes: Sequence[int]) -> str:
    """The plane of the slices; an empty text where voxels are about as long as wide."""
    if len(axes) < 3 or max(spacing) < ANISOTROPIC * sorted(spacing)[1]:
        return ""
    return _PLANES[int(np.argmax(spacing))]


def _intensities(array: Array, plan: Plan) -> Iterator[str]:
    """What is unusual about intensities on a fixed scale; those of other channels are normalized image by image."""
    for name, channel, normalization in zip(plan.channel_names, array, plan.preprocessing.normalization, strict=True):
        if normalization.kind != "ct":
            continue
        every = max(1, round((channel.size / SAMPLED) ** (1 / 3)))
        sample = channel[::every, ::every, ::every]
        low, high = normalization.lower, normalization.upper
        share = float(np.mean((sample >= low) & (sample <= high)))
        if share < LEAST_SHARE:
            yield (
                f"the intensities of {name} are outside of what the model was trained on: {share:.1%} of the voxels "
                f"are between {low:.4g} and {high:.4g}, as labelled voxels were"
            )
        elif plan.modality == "ct" and sample.min() >= 0:
            yield f"no voxel of {name} is negative, as air is in Hounsfield units; the rescale intercept may be missing"
