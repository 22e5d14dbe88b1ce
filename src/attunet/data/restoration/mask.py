"""The mask that results are written into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attunet.data.record import PreprocessingRecord
from attunet.data.volume import Array
from attunet.errors import LabelError

__all__ = ["blank_mask", "smallest_integer"]

_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)


def blank_mask(record: PreprocessingRecord, values: Sequence[int]) -> Array:
    """Nothing but background, values[0], on the original grid (1, I, J, K), in the smallest integer that holds all."""
    result: Array = np.zeros((1, *record.shape), dtype=smallest_integer(values))
    if values[0]:  # else the pages of fresh zeros come with the slabs that are written, on every core
        result[:] = values[0]
    return result


def smallest_integer(values: Sequence[int]) -> type[np.integer[Any]]:
    """The dtype of masks that hold these values. Raises: LabelError when no integer does."""
    for kind in _INTEGERS:
        if np.iinfo(kind).min <= min(values) and max(values) <= np.iinfo(kind).max:
            return kind
    raise LabelError(f"label values {min(values)} to {max(values)} do not fit into 64 bits")
