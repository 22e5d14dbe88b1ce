"""Which number types volumes have inside, and which files can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attunet.data.volume import Array
from attunet.errors import FormatError

__all__ = ["narrowed", "readable", "storable"]

NARROW = (np.uint8, np.int8, np.uint16, np.int16, np.int32)
INT32 = np.iinfo(np.int32)


def readable(array: Array, path: Path) -> Array:
    """What a file holds as native numbers: booleans as uint8, every float as float32, integers as they are.

    Raises: FormatError for complex numbers, colour structures, text and objects.
    """
    if array.dtype.kind not in "biuf":
        raise FormatError(
            f"{path} holds {_describe(array.dtype)} values, expected real numbers",
            hint="save it with one number per voxel and channel, such as int16 or float32",
        )
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return array.astype(np.float32, copy=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def storable(array: Array) -> Array:
    """Numbers that any reader of images knows: as `readable`, and wide integers as int32 when they fit."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    fits = array.dtype.itemsize >= 4 and array.min() >= INT32.min and array.max() <= INT32.max
    return array.astype(np.int32, copy=False) if fits else array


def narrowed(array: Array) -> Array | None:
    """Integral values in the smallest integer type up to int32 that holds them; None when none does."""
    low, high = array.min(), array.max()
    for kind in NARROW:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    return None


def _describe(dtype: np.dtype[np.generic]) -> str:
    if dtype.names:
        return f"{'/'.join(dtype.names)} colour"
    return {"c": "complex", "O": "object", "U": "text", "S": "text"}.get(dtype.kind, str(dtype))
