"""A whole array of the model grid on the patient's grid: numbers, labels, regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from attunet.data.orientation import oriented
from attunet.data.record import PreprocessingRecord
from attunet.data.resample import Resizing, resize_into
from attunet.data.restoration.mask import blank_mask
from attunet.data.restoration.winning import SLAB_VOXELS, Codes, painted, strongest
from attunet.data.slabs import each_slab
from attunet.data.volume import Array
from attunet.errors import GeometryError, LabelError

__all__ = ["restore", "restore_labels", "restore_regions"]

Image = npt.NDArray[np.float32]


def restore(array: Array, record: PreprocessingRecord, *, fill: float = 0.0) -> Image:
    """An array (C, I, J, K) of the model grid on the original grid, linear, float32; `fill` outside the crop.

    Raises: GeometryError when the array is not on the record's model grid.
    """
    _check_model_grid(array, record)
    result = np.full((array.shape[0], *record.shape), fill, dtype=np.float32)
    upright = oriented(result, record.axes, record.flips)
    for target, channel in zip(upright, array, strict=True):
        resize_into(target[record.box], channel)
    return result


def restore_labels(logits: Array, record: PreprocessingRecord, values: Sequence[int]) -> Array:
    """The strongest class of logits (C, I, J, K) at each voxel of the original grid (I, J, K), as file value.

    The same as restoring every class and taking the argmax, but only the voxels between classes are interpolated, and
    nothing but the result is as large as the original grid. Voxels outside the crop get values[0]; ties go to the
    lower class. The dtype is the smallest integer that holds every value.
    Args: finite logits of any real type, such as float16; only `logits[:, rows]` is read, slab by slab, so that they
        may be memory-mapped.
    Raises: GeometryError when the logits are not on the model grid, LabelError when classes and values differ
        in number.
    """
    _check_model_grid(logits, record)
    if len(values) != logits.shape[0]:
        raise LabelError(f"{len(values)} label values for {logits.shape[0]} classes, expected one per class")
    return _mask(record, values, lambda resizing, rows: strongest(logits, resizing, rows))


def restore_regions(probabilities: Array, record: PreprocessingRecord, values: Sequence[int]) -> Array:
    """Overlapping regions (R, I, J, K), painted one over the other where above 0.5, on the original grid (I, J, K).

    Args: finite probabilities, read as by `restore_labels`; the value of the background, then that of each region in
        painting order.
    Raises: as `restore_labels`.
    """
    _check_model_grid(probabilities, record)
    if len(values) != 1 + probabilities.shape[0]:
        raise LabelError(f"{len(values) - 1} values for {probabilities.shape[0]} regions, expected one per region")
    return _mask(record, values, lambda resizing, rows: painted(probabilities, resizing, rows))


def _check_model_grid(array: Array, record: PreprocessingRecord) -> None:
    if array.ndim != 4 or array.shape[1:] != record.model_shape:
        raise GeometryError(f"got an array of shape {array.shape}, expected (C, *{record.model_shape})")


def _mask(record: PreprocessingRecord, values: Sequence[int], decide: Callable[[Resizing, slice], Codes]) -> Array:
    """File values (I, J, K) on the original grid, made of positions in `values` that are decided slab by slab."""
    result = blank_mask(record, values)
    file_values = np.array(values, dtype=result.dtype)
    counted = np.array_equal(file_values, np.arange(len(values)))
    upright = oriented(result, record.axes, record.flips)[0, *record.box]
    resizing = Resizing.between(record.model_shape, record.cropped_shape)

    def work(rows: slice) -> None:
        codes = decide(resizing, rows)
        upright[rows] = codes if counted else file_values.take(codes)

    each_slab(work, record.cropped_shape[0], resizing.rows(SLAB_VOXELS))
    return np.asarray(result[0])
