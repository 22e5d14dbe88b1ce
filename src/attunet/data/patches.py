"""Cutting a patch around a voxel, for training and for quantization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attunet.data.volume import Array

__all__ = ["cut_patch"]


def cut_patch(array: Array, centre: Sequence[int] | Array, size: Sequence[int], *, fill: int | None = None) -> Array:
    """A copy of the patch around a voxel, shifted to lie inside the array where it fits, else padded.

    Args:
        array: (..., I, J, K); of an array on disk, only the patch is read.
        centre: the voxel (3,).
        size: of the patch in voxels (3,).
        fill: the value of padded voxels; None repeats the edge.
    Returns: (..., *size).
    """
    starts, pads = [], []
    for position, length, extent in zip(centre, size, array.shape[-3:], strict=True):
        missing = max(0, length - extent)
        starts.append(int(np.clip(position - length // 2, 0, max(0, extent - length))))
        pads.append((missing // 2, missing - missing // 2))
    box = tuple(slice(start, start + length) for start, length in zip(starts, size, strict=True))
    leading = (slice(None),) * (array.ndim - 3)
    patch = np.array(array[(*leading, *box)])
    if not any(sum(pad) for pad in pads):
        return patch
    pads = [(0, 0)] * len(leading) + pads
    return np.pad(patch, pads, mode="edge") if fill is None else np.pad(patch, pads, constant_values=fill)
