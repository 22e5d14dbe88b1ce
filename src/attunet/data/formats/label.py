"""Masks as users save them, turned into one channel of integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attunet.data.formats.dtypes import narrowed
from attunet.data.volume import Array, Volume
from attunet.errors import LabelError

__all__ = ["as_label"]


def as_label(volume: Volume, path: Path) -> Volume:
    """One channel of whole numbers, in the file's integer type or the smallest up to int32 that holds them.

    Channels that are all the same (a grey mask saved as RGB) collapse into one; whole floats are cast.
    Raises: LabelError when channels differ, or values are not whole, not finite or beyond int32.
    """
    array = _one_channel(volume.array, path)
    if array.dtype.kind == "f":
        _check_whole(array, path)
    elif array.dtype.itemsize < 4 or array.dtype == np.int32:
        return volume.with_array(array)
    narrow = narrowed(array)
    if narrow is None:
        raise LabelError(
            f"{path} has label values up to {array.max()}, expected at most {np.iinfo(np.int32).max}",
            hint="renumber the labels",
        )
    return volume.with_array(narrow)


def _one_channel(array: Array, path: Path) -> Array:
    first = array[:1]
    if not all(np.array_equal(first, other[None]) for other in array[1:]):
        raise LabelError(
            f"{path} has {array.shape[0]} channels that differ, expected one channel of label values",
            hint="save the mask as one grey channel in which each voxel is the number of its class",
        )
    return first


def _check_whole(array: Array, path: Path) -> None:
    bad = array[~np.isfinite(array)] if not np.isfinite(array).all() else array[array != np.rint(array)]
    if bad.size:
        raise LabelError(
            f"{path} has {bad.size} voxels that are not whole numbers (such as {bad.flat[0]:g})",
            hint="save the label map with integers; after resampling use nearest neighbour, not linear",
        )
