"""Cutting a patch around a voxel, for training and for quantization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attunet.data.volume import Array

__all__ = ["cut_patch", "patch_start"]


def cut_patch(array: Array, centre: Sequence[int] | Array, size: Sequence[int], *, fill: int | None = None) -> Array:
    """A copy of the patch around a voxel, shifted to lie inside the array where it fits, else padded.

    Args:
        array: (..., I, J, K); of an array on disk, only the patch is read.
        centre: the voxel (3,).
        size: of the patch in voxels (3,).
        fill: the value of padded voxels; None repeats the edge.
    Returns: (..., *size).
    """
    starts = patch_start(array.shape[-3:], centre, size)
    missing = [max(0, length - extent) for length, extent in zip(size, array.shape[-3:], strict=True)]
    pads = [(gap // 2, gap - gap // 2) for gap in missing]
    box = tuple(slice(max(0, start), start + length) for start, length in zip(starts, size, strict=True))
    leading = (slice(None),) * (array.ndim - 3)
    patch = np.array(array[(*leading, *box)])
    if not any(sum(pad) for pad in pads):
        return patch
    pads = [(0, 0)] * len(leading) + pads
    return np.pad(patch, pads, mode="edge") if fill is None else np.pad(patch, pads, constant_values=fill)


def patch_start(extent: Sequence[int], centre: Sequence[int] | Array, size: Sequence[int]) -> tuple[int, int, int]:
    """The first voxel of the patch around a voxel, negative where the patch is larger than the array.

    Args:
        extent: shape (3,) of the array.
        centre: the voxel (3,).
        size: of the patch in voxels (3,).
    Returns: its voxel indices.
    """
    i, j, k = (
        int(np.clip(position - length // 2, 0, whole - length)) if whole >= length else -((length - whole) // 2)
        for position, length, whole in zip(centre, size, extent, strict=True)
    )
    return i, j, k
