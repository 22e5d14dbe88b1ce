"""What stored values mean: rescale, table, padding and inversion, each applied exactly once, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attunet.data.formats.dicom.decoding import image_dtype
from attunet.data.formats.dicom.slices import PALETTE, StoredSlice
from attunet.data.formats.limits import AGAIN
from attunet.data.volume import Array
from attunet.errors import FormatError
from attunet.names import listed

__all__ = ["bounds_of", "check_rescale", "padding_mask", "rescaled", "result_dtypes", "used_bits"]

WHOLE = 2.0**31
"""Whole slopes and intercepts below this give whole values that int32 or float32 hold, or are refused."""
INTEGERS: tuple[np.dtype[Any], ...] = tuple(map(np.dtype, ("u1", "i2", "u2", "i4", "u4")))
"""Types of results, the smallest that holds all values of a series is taken."""


def check_rescale(slices: Sequence[StoredSlice]) -> None:
    """Make sure that the rescale of slices of one volume is possible.

    Raises: FormatError for an impossible slope or intercept, and for slices without any among others with one.
    """
    for one in slices:
        if not np.isfinite([one.slope, one.intercept]).all() or one.slope == 0:
            raise FormatError(
                f"{one.name} has the rescale slope {one.slope:g} and intercept {one.intercept:g}", hint=AGAIN
            )
    without = [one.name for one in slices if not one.rescale and one.table is None]
    if without and len(without) < len(slices) and any((one.slope, one.intercept) != (1, 0) for one in slices):
        raise FormatError(
            f"slices without a rescale slope and intercept, which others have: {listed(without, 4)}",
            hint=AGAIN,
        )


def result_dtypes(slices: Sequence[StoredSlice]) -> tuple[np.dtype[Any], ...]:
    """The types that may hold the values of a series, the smallest first; the last holds every possible value.

    A 16-bit CT with an intercept could need 32 bits and rarely does: the smaller type is tried first.
    """
    if not all(_is_whole(one) for one in slices):
        return (np.dtype(np.float32),)
    ends = [bounds_of(one) for one in slices]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    fitting = [dtype for dtype in INTEGERS if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max]
    widest = fitting[0] if fitting else np.dtype(np.float64)
    if widest.itemsize > 2 and max(one.layout.allocated for one in slices) <= 16:
        return np.dtype("i2"), widest
    return (widest,)


def bounds_of(one: StoredSlice) -> tuple[float, float]:
    """The lowest and the highest value that a slice could have, by the bits it uses."""
    if one.table is not None:
        return float(one.table[1].min()), float(one.table[1].max())
    bits = 8 if one.layout.photometric == PALETTE else one.layout.stored
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if one.layout.signed else (0, (1 << bits) - 1)
    ends = one.slope * low + one.intercept, one.slope * high + one.intercept
    return min(ends), max(ends)


def used_bits(stored: Array, one: StoredSlice) -> Array:
    """The stored values, of the bits that are used alone.

    Bits above them hold nothing, an old overlay, or the sign of a negative value.
    Raises: FormatError when they hold a part of the values, against the header.
    """
    layout = one.layout
    spare = layout.allocated - layout.stored
    if spare == 0 or stored.ndim > 2:
        return stored
    low, high = (0, (1 << layout.stored) - 1)
    if layout.signed:
        low, high = -(1 << (layout.stored - 1)), (1 << (layout.stored - 1)) - 1
    if layout.high == layout.stored - 1 and stored.min() >= low and stored.max() <= high:
        return stored
    dtype = image_dtype(layout)
    cut = np.left_shift(stored.astype(dtype), layout.allocated - 1 - layout.high)
    cut = np.right_shift(cut, spare)  # which repeats the sign of signed values
    differ = cut != stored
    if layout.high == layout.stored - 1 and not layout.overlays:
        unsigned = stored.astype(dtype).view(f"u{dtype.itemsize}")
        known = padding_mask(stored, one) | ((unsigned >> layout.stored) == 0)
        if not known[differ].all():
            count = int(np.count_nonzero(differ & ~known))
            raise FormatError(
                f"{one.name} has {count} values that need more than the {layout.stored} bits its header declares",
                hint="correct BitsStored, or export the series again",
            )
        return np.where(padding_mask(stored, one), stored, cut)
    return cut


def padding_mask(stored: Array, one: StoredSlice) -> Array:
    """Where stored values (rows, columns) are padding."""
    if one.padding is None:
        return np.zeros(stored.shape, bool)
    low, high = one.padding
    mask: Array = (stored >= low) & (stored <= high)
    return mask


def rescaled(stored: Array, one: StoredSlice, dtype: np.dtype[Any]) -> Array | None:
    """The values of a slice in a type; None when it cannot hold them.

    Args:
        stored: the stored values (rows, columns), of the bits that are used.
        one: the slice.
        dtype: one of `result_dtypes`.
    Returns: the values of the same shape.
    """
    values = stored
    if one.inverted:
        bits = one.layout.stored
        turn = -1 if one.layout.signed else (1 << bits) - 1
        values = turn - stored.astype(np.int64)
    if one.table is not None:
        first, table = one.table
        return table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)].astype(dtype)
    if dtype.kind == "f":
        return (values * np.float64(one.slope) + one.intercept).astype(dtype)
    if one.slope == 1 and one.intercept == 0 and values.dtype == dtype:
        return values
    slope, intercept, limits = int(one.slope), int(one.intercept), np.iinfo(dtype)
    low, high = sorted(slope * int(end) + intercept for end in (values.min(), values.max()))
    if low < limits.min or high > limits.max:
        return None
    whole: Array = values.astype(dtype)  # modulo 2**bits, as are the product and the sum: what fits in the end is exact
    if slope != 1:
        whole *= _modulo(slope, dtype)
    whole += _modulo(intercept, dtype)
    return whole


def _modulo(value: int, dtype: np.dtype[Any]) -> Any:
    """An integer modulo the range of a type."""
    return np.array(value % 2 ** (8 * dtype.itemsize), np.uint64).astype(dtype)


def _is_whole(one: StoredSlice) -> bool:
    if one.table is not None:
        return True
    return all(value == int(value) and abs(value) < WHOLE for value in (one.slope, one.intercept))
