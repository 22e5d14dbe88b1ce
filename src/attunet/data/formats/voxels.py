"""Voxel values: which number types volumes have in memory and in files, and what makes a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attunet.data.volume import Array, Volume
from attunet.errors import FormatError, LabelError

__all__ = ["to_image", "to_label", "to_native", "to_storable"]

LABEL_TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.int32)
INT32 = np.iinfo(np.int32)
COLOURS_SEARCHED = 10**8
MOST_COLOURS = 12


def to_native(array: Array, path: Path) -> Array:
    """Convert the voxels of a file to the byte order of the machine, and booleans to uint8; no value changes.

    Raises: FormatError for complex numbers, colour structures, text and objects.
    """
    if array.dtype.kind not in "biuf":
        raise FormatError(
            f"{path} contains {_describe(array.dtype)} values, expected real numbers",
            hint="save it with one number per voxel and channel, such as int16 or float32",
        )
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def to_image(volume: Volume) -> Volume:
    """Convert every float to float32; integers keep their type."""
    if volume.array.dtype.kind != "f":
        return volume
    with np.errstate(over="ignore"):
        return volume.with_array(volume.array.astype(np.float32, copy=False))


def to_storable(array: Array) -> Array:
    """Convert to a type that other software reads: as `to_native`, and wide integers to int32 where they fit."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    fits = array.dtype.itemsize >= 4 and array.min() >= INT32.min and array.max() <= INT32.max
    return array.astype(np.int32, copy=False) if fits else array


def to_label(volume: Volume, path: Path) -> Volume:
    """Convert what a mask file holds to one channel of integers: the file's type, or the smallest up to int32.

    Channels that are all equal (a grey mask saved as RGB) become one; floats that are whole numbers are converted.
    Raises: LabelError when channels differ, or values are not whole, not finite, do not fit into int32 or are stored in
        a float type that cannot tell them from their neighbours.
    """
    array = _one_channel(volume.array, path)
    if array.dtype.kind == "f":
        _check_whole(array, path)
    elif array.dtype.itemsize < 4 or array.dtype == np.int32:
        return volume.with_array(array)
    return volume.with_array(_narrowed(array, path))


def _one_channel(array: Array, path: Path) -> Array:
    first = array[:1]
    if not all(np.array_equal(first, other[None]) for other in array[1:]):
        raise LabelError(
            f"{path} has {array.shape[0]} channels that differ{_colours(array)}, expected one channel of label values",
            hint="save the mask as one grey channel in which each voxel is the number of its class",
        )
    return first


def _colours(array: Array) -> str:
    """The colours of a mask that shows each class in its own, as words; empty when they are many."""
    if array.size > COLOURS_SEARCHED:
        return ""
    colours = np.unique(array.reshape(len(array), -1), axis=1).T
    if len(colours) > MOST_COLOURS:
        return ""
    return f" (the {len(colours)} colours {', '.join(str(tuple(colour.tolist())) for colour in colours)})"


def _check_whole(array: Array, path: Path) -> None:
    bad = array[~np.isfinite(array)] if not np.isfinite(array).all() else array[array != np.rint(array)]
    if bad.size:
        probabilities = array.min() >= 0 and array.max() <= 1
        raise LabelError(
            f"{path} has {bad.size} voxels that are not whole numbers (such as {bad.flat[0]:g})"
            + (", all from 0 to 1: probabilities, not labels" if probabilities else ""),
            hint="save what is at least 0.5 as 1 and all else as 0, with integers"
            if probabilities
            else "save the label map with integers; after resampling use nearest neighbour, not linear; "
            "exchange the two if this is the image",
        )
    largest = 2 ** (np.finfo(array.dtype).nmant + 1)  # of the whole numbers up to which every one can be told apart
    if array.size and np.abs(array).max() > largest:
        raise LabelError(
            f"{path} has label values up to {np.abs(array).max():.0f} as {array.dtype}, "
            f"which rounds whole numbers above {largest}",
            hint="save the label map as int32 from its source, or renumber the labels",
        )


def _narrowed(array: Array, path: Path) -> Array:
    low, high = array.min(), array.max()
    for kind in LABEL_TYPES:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise LabelError(
        f"{path} has label values {low:g} to {high:g}, expected {INT32.min} to {INT32.max}", hint="renumber the labels"
    )


def _describe(dtype: np.dtype[np.generic]) -> str:
    if dtype.names:
        return f"{'/'.join(dtype.names)} colour"
    return {"c": "complex", "O": "object", "U": "text", "S": "text"}.get(dtype.kind, str(dtype))
