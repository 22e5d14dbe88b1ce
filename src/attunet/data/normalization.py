"""Intensity normalization: by the statistics of the data set, or of each image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from attunet.config import Normalization
from attunet.data.volume import Array

__all__ = ["mean_and_std", "normalize"]

Image = npt.NDArray[np.float32]

BLOCK_VOXELS = 2**18


def mean_and_std(
    channel: Array, normalization: Normalization, *, block_voxels: int = BLOCK_VOXELS
) -> tuple[float, float]:
    """Mean and standard deviation to normalize a channel with.

    Args:
        channel: intensities (I, J, K) as in the file.
        normalization: how the channel is normalized. zscore: by the figures of its voxels above the minimum, or its
            own value and 1 when all are equal; otherwise by the figures given there.
        block_voxels: voxels that are converted at a time, to save memory.
    Returns: mean and standard deviation, never 0.
    """
    if normalization.kind != "zscore":
        return normalization.mean, normalization.std
    parts = [(block.size, float(block.sum(dtype=np.float64))) for block in _foreground(channel, block_voxels)]
    count = sum(size for size, _total in parts)
    if not count:
        return float(channel.flat[0]), 1.0
    mean = sum(total for _size, total in parts) / count
    squares = (
        np.square(block - np.float32(mean)).sum(dtype=np.float64) for block in _foreground(channel, block_voxels)
    )
    return mean, float(np.sqrt(sum(squares) / count)) or 1.0


def normalize(channel: Image, normalization: Normalization, mean: float, std: float) -> None:
    """Clip a channel (ct), subtract the mean and divide by the standard deviation, in place.

    Args:
        channel: float32 intensities (I, J, K); overwritten, so that a large volume is held once.
        normalization: how the channel is normalized; none leaves it as it is.
        mean: the mean, as `mean_and_std` gives it.
        std: the standard deviation, as `mean_and_std` gives it.
    """
    if normalization.kind == "none":
        return
    if normalization.kind == "ct":
        np.clip(channel, normalization.lower, normalization.upper, out=channel)
    channel -= np.float32(mean)
    channel /= np.float32(std)


def _foreground(channel: Array, block_voxels: int) -> Iterator[Image]:
    """The values above the minimum, float32 (N,), some planes at a time, in the order in which they lie in memory."""
    planes = channel.transpose(sorted(range(channel.ndim), key=lambda axis: -abs(channel.strides[axis])))
    lowest = channel.min()
    step = max(1, block_voxels * len(planes) // planes.size)
    for start in range(0, len(planes), step):
        block = planes[start : start + step]
        yield block[block > lowest].astype(np.float32)
