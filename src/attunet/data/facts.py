"""Facts about a case: the numbers that `inspect` shows and compares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from attunet.data.modality import CaseChannels
from attunet.data.volume import Array, Spacing, Volume

__all__ = ["CaseFacts", "Intensity", "count_labels", "gather_facts"]

PERCENTILES = (0.5, 50.0, 99.5)
PERCENTILE_SAMPLES = 1_000_000  # percentiles of an evenly spaced sample of this size are exact to well under 1%
MAX_BINCOUNT_VALUE = 65536
BINCOUNT_BLOCK = 2**22


@dataclass(frozen=True)
class Intensity:
    """The range of an image's finite values, over all channels.

    Args:
        minimum, maximum: extremes.
        percentiles: the 0.5th, 50th and 99.5th percentile; of large images, those of a sample of a million values.
    """

    minimum: float
    maximum: float
    percentiles: tuple[float, float, float]


@dataclass(frozen=True)
class CaseFacts:
    """Facts of a case whose image can be read.

    Args:
        id: id of the case.
        shape: voxels along the array's axes (I, J, K).
        spacing: voxel size along these axes, mm.
        orientation: nearest anatomical direction of each axis, such as RAS.
        channels: number of channels.
        dtype: number type of the image as read.
        intensity: range of the finite values; None when no value is finite.
        not_finite: number of values that are NaN or infinite.
        content: hash of the image's values and shape, equal for equal images in any file format.
        labels: label value to voxel count; None when the label is missing or cannot be used.
        calibrated: whether the image declares its spacing.
        soft_edges: whether the label looks like a mask with soft edges rather than classes.
        modality: what says which modality each channel is; None when it was not looked for.
    """

    id: str
    shape: tuple[int, int, int]
    spacing: Spacing
    orientation: str
    channels: int
    dtype: str
    intensity: Intensity | None
    not_finite: int
    content: str
    labels: dict[int, int] | None = None
    calibrated: bool = True
    soft_edges: bool = False
    modality: CaseChannels | None = None


def gather_facts(case: str, image: Volume) -> CaseFacts:
    """The facts of an image, without those of its label."""
    intensity, not_finite = _intensity(image.array)
    return CaseFacts(
        id=case,
        shape=image.spatial_shape,
        spacing=image.spacing,
        orientation=image.orientation,
        channels=image.channels,
        dtype=str(image.array.dtype),
        intensity=intensity,
        not_finite=not_finite,
        content=_content(image.array),
        calibrated=image.calibrated,
    )


def count_labels(array: Array) -> dict[int, int]:
    """Value to voxel count of an integer array, sorted by value."""
    if array.min() >= 0 and (highest := int(array.max())) < MAX_BINCOUNT_VALUE:
        flat, counts = array.ravel(order="K"), np.zeros(highest + 1, np.intp)
        for start in range(0, flat.size, BINCOUNT_BLOCK):  # counting takes eight bytes a voxel
            counts += np.bincount(flat[start : start + BINCOUNT_BLOCK], minlength=highest + 1)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, numbers = np.unique(array, return_counts=True)
    return {int(value): int(number) for value, number in zip(values, numbers, strict=True)}


def _intensity(array: Array) -> tuple[Intensity | None, int]:
    values = array.ravel(order="K")
    not_finite = 0
    if array.dtype.kind == "f":
        finite = np.isfinite(values)
        not_finite = int(values.size - np.count_nonzero(finite))
        values = values[finite] if not_finite else values
    if values.size == 0:
        return None, not_finite
    sample = values[:: max(1, values.size // PERCENTILE_SAMPLES)]
    low, middle, high = (float(value) for value in np.percentile(sample, PERCENTILES))
    return Intensity(float(values.min()), float(values.max()), (low, middle, high)), not_finite


def _content(array: Array) -> str:
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array, dtype=np.float32).view(np.uint8).data)
    return digest.hexdigest()
