"""Intensities to the numbers a network is used to: by the data set's own figures, or by each image's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from attunet.config import Normalization
from attunet.data.volume import Array

__all__ = ["moments", "normalize"]

Image = npt.NDArray[np.float32]

_PIECE_VOXELS = 2**18


def moments(channel: Array, how: Normalization) -> tuple[float, float]:
    """Mean and standard deviation to normalise a channel with: given, or (zscore) of its voxels above the minimum.

    A channel that is the same everywhere has no such voxels: its own value, and 1.
    """
    if how.kind != "zscore":
        return how.mean, how.std
    parts = [(content.size, float(content.sum(dtype=np.float64))) for content in _contents(channel)]
    count = sum(size for size, _total in parts)
    if not count:
        return float(channel.flat[0]), 1.0
    mean = sum(total for _size, total in parts) / count
    squares = (np.square(content - np.float32(mean)).sum(dtype=np.float64) for content in _contents(channel))
    return mean, float(np.sqrt(sum(squares) / count)) or 1.0


def normalize(channel: Image, how: Normalization, mean: float, std: float) -> None:
    """Clip (ct), subtract the mean, divide by the deviation; in place, to keep one copy of a large volume."""
    if how.kind == "none":
        return
    if how.kind == "ct":
        np.clip(channel, how.lower, how.upper, out=channel)
    channel -= np.float32(mean)
    channel /= np.float32(std)


def _contents(channel: Array) -> Iterator[Image]:
    """The values above the minimum, float32 (N,), some planes at a time, in the order in which they lie in memory."""
    planes = channel.transpose(sorted(range(channel.ndim), key=lambda axis: -abs(channel.strides[axis])))
    lowest = channel.min()
    step = max(1, _PIECE_VOXELS * len(planes) // planes.size)
    for start in range(0, len(planes), step):
        piece = planes[start : start + step]
        yield piece[piece > lowest].astype(np.float32)
