"""From the patient's grid to the network's and back: every step with its undo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attunet.config import Preprocessing
from attunet.data.normalization import moments, normalize
from attunet.data.orientation import Flips, Triple, canonical, content_box, oriented, reorientation
from attunet.data.resample import Resizing, resize_into, resize_labels
from attunet.data.slabs import each_slab
from attunet.data.volume import Affine, Array, Volume
from attunet.data.winning import SLAB_VOXELS, Codes, painted, strongest
from attunet.errors import DataError, GeometryError, LabelError

__all__ = [
    "IGNORED",
    "Prepared",
    "Trail",
    "blank_mask",
    "model_affine",
    "prepare",
    "prepare_label",
    "restore",
    "restore_labels",
    "restore_regions",
    "smallest_integer",
    "untouched",
]

IGNORED = 255
"""Class index of voxels that are left out of the loss."""

Box = tuple[slice, slice, slice]
Image = npt.NDArray[np.float32]

_LARGEST_GRID = 2**31
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)


@dataclass(frozen=True, eq=False)
class Trail:
    """What was done to a volume, so that it can be done to its label and undone for its masks.

    Args:
        affine, shape: the original grid.
        axes: the original axis that each model axis was taken from.
        flips: whether each model axis runs against its original axis.
        start, cropped_shape: the content box in canonical axes, slice axis last.
        model_shape: (I, J, K) after resampling.
        preprocessing: the settings that were followed.
    """

    affine: Affine
    shape: Triple
    axes: Triple
    flips: Flips
    start: Triple
    cropped_shape: Triple
    model_shape: Triple
    preprocessing: Preprocessing

    @property
    def box(self) -> Box:
        """The content box, as slices of the canonical grid."""
        i, j, k = (slice(low, low + size) for low, size in zip(self.start, self.cropped_shape, strict=True))
        return i, j, k

    @property
    def content(self) -> Box:
        """The same box, as slices of the original grid."""
        parts = [slice(0, 0)] * 3
        for axis, flip, part in zip(self.axes, self.flips, self.box, strict=True):
            size = self.shape[axis]
            parts[axis] = slice(size - part.stop, size - part.start) if flip else part
        i, j, k = parts
        return i, j, k


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network's input, float32 (C, I, J, K), and the way back."""

    array: Image
    trail: Trail


def prepare(volume: Volume, preprocessing: Preprocessing) -> Prepared:
    """Canonical axes, crop to content, resample to the plan's spacing, normalise.

    Raises: DataError when the channels differ from the plan's or the values are complex, NaN or infinite;
        GeometryError when the volume's spacing asks for an impossibly large grid.
    """
    _check(volume, preprocessing)
    upright, axes, flips = canonical(volume, preprocessing.slice_axis)
    # What is clipped away tells a network nothing: noise in the air around a patient is no content.
    floors = [how.lower if how.kind == "ct" else -np.inf for how in preprocessing.normalization]
    start, cropped_shape = content_box(upright.array, crop=preprocessing.crop_to_content, floors=floors)
    trail = Trail(
        affine=volume.affine,
        shape=volume.spatial_shape,
        axes=axes,
        flips=flips,
        start=start,
        cropped_shape=cropped_shape,
        model_shape=_model_shape(cropped_shape, upright, preprocessing),
        preprocessing=preprocessing,
    )
    array = np.empty((volume.channels, *trail.model_shape), dtype=np.float32)
    for target, channel, how in zip(array, upright.array, preprocessing.normalization, strict=True):
        cropped = channel[trail.box]
        mean, std = moments(cropped, how)
        resize_into(target, cropped, antialias=True)
        normalize(target, how, mean, std)
    return Prepared(array, trail)


def prepare_label(label: Volume, trail: Trail, values: Sequence[int], ignore: int | None = None) -> Array:
    """The label of a prepared image as class indices, uint8 (I, J, K) on the model grid.

    Args: the label on the image's own grid; the value of each class in the file, background first; the value
        of voxels to leave out of the loss, which become `IGNORED`. Values not listed become background.
    Raises: GeometryError when the grid differs from the image's, LabelError for channels or fractions.
    """
    if label.spatial_shape != trail.shape:
        raise GeometryError(
            f"label grid {label.spatial_shape} differs from image grid {trail.shape}",
            hint="resample the label onto the image",
        )
    if label.channels != 1:
        raise LabelError(f"the label has {label.channels} channels, expected 1", hint="write one value a voxel")
    upright = oriented(label.array, trail.axes, trail.flips)
    return resize_labels(_class_indices(upright[0, *trail.box], values, ignore), trail.model_shape)


def restore(array: Array, trail: Trail, *, fill: float = 0.0) -> Image:
    """An array (C, I, J, K) of the model grid on the original grid, linear, float32; `fill` outside the crop.

    Raises: GeometryError when the array is not on the trail's model grid.
    """
    _check_model_grid(array, trail)
    result = np.full((array.shape[0], *trail.shape), fill, dtype=np.float32)
    upright = oriented(result, trail.axes, trail.flips)
    for target, channel in zip(upright, array, strict=True):
        resize_into(target[trail.box], channel)
    return result


def restore_labels(logits: Array, trail: Trail, values: Sequence[int]) -> Array:
    """The strongest class of logits (C, I, J, K) at each voxel of the original grid (I, J, K), as file value.

    The same as restoring every class and taking the argmax, but only the voxels between classes are interpolated, and
    nothing but the result is as large as the original grid. Voxels outside the crop get values[0]; ties go to the
    lower class. The dtype is the smallest integer that holds every value.
    Args: finite logits of any real type, such as float16; only `logits[:, rows]` is read, slab by slab, so that they
        may be memory-mapped.
    Raises: GeometryError when the logits are not on the model grid, LabelError when classes and values differ
        in number.
    """
    _check_model_grid(logits, trail)
    if len(values) != logits.shape[0]:
        raise LabelError(f"{len(values)} label values for {logits.shape[0]} classes, expected one per class")
    return _mask(trail, values, lambda resizing, rows: strongest(logits, resizing, rows))


def restore_regions(probabilities: Array, trail: Trail, values: Sequence[int]) -> Array:
    """Overlapping regions (R, I, J, K), painted one over the other where above 0.5, on the original grid (I, J, K).

    Args: finite probabilities, read as by `restore_labels`; the value of the background, then that of each region in
        painting order.
    Raises: as `restore_labels`.
    """
    _check_model_grid(probabilities, trail)
    if len(values) != 1 + probabilities.shape[0]:
        raise LabelError(f"{len(values) - 1} values for {probabilities.shape[0]} regions, expected one per region")
    return _mask(trail, values, lambda resizing, rows: painted(probabilities, resizing, rows))


def blank_mask(trail: Trail, values: Sequence[int]) -> Array:
    """Nothing but background, values[0], on the original grid (1, I, J, K), in the smallest integer that holds all."""
    result: Array = np.zeros((1, *trail.shape), dtype=smallest_integer(values))
    if values[0]:  # else the pages of fresh zeros come with the slabs that are written, on every core
        result[:] = values[0]
    return result


def untouched(volume: Volume, preprocessing: Preprocessing) -> Trail:
    """The trail of a volume to which nothing was done, for results that lie on its own grid already."""
    shape = volume.spatial_shape
    return Trail(volume.affine, shape, (0, 1, 2), (False, False, False), (0, 0, 0), shape, shape, preprocessing)


def model_affine(trail: Trail) -> Affine:
    """The affine of the model grid: model voxel indices to RAS+ millimetres."""
    scale = np.divide(trail.cropped_shape, trail.model_shape)
    resampling = np.diag([*scale, 1.0])
    # Half-pixel centres: the grids share their outer faces, not their first voxel centres.
    resampling[:3, 3] = scale / 2 - 0.5 + trail.start
    return np.asarray(trail.affine @ reorientation(trail.axes, trail.flips, trail.shape) @ resampling)


def _check(volume: Volume, preprocessing: Preprocessing) -> None:
    expected = len(preprocessing.normalization)
    if volume.channels != expected:
        raise DataError(
            f"the image has {volume.channels} channels, expected {expected}",
            hint="give the same channels in the same order as in training",
        )
    if volume.array.dtype.kind not in "biuf":
        raise DataError(f"the image holds {volume.array.dtype}, expected real numbers", hint="convert the image")
    # The extremes show NaN and infinities without a mask of the volume's size.
    extremes = float(volume.array.min()), float(volume.array.max())
    if not all(abs(value) <= float(np.finfo(np.float32).max) for value in extremes):
        raise DataError(
            "the image holds NaN or infinite values, expected finite numbers",
            hint="replace them by a number, such as the value of air or background",
        )


def _model_shape(cropped: Triple, upright: Volume, preprocessing: Preprocessing) -> Triple:
    wanted = np.multiply(cropped, upright.spacing) / preprocessing.spacing
    # A single slice has no neighbours to interpolate between: it stays one.
    wanted = np.where(np.equal(upright.spatial_shape, 1), 1.0, np.maximum(1.0, np.floor(wanted + 0.5)))
    if wanted.prod() > _LARGEST_GRID:
        raise GeometryError(
            f"spacing {upright.spacing} mm asks for a model grid of {wanted.tolist()} voxels",
            hint="check the voxel size in the file's header",
        )
    return int(wanted[0]), int(wanted[1]), int(wanted[2])


def _class_indices(label: Array, values: Sequence[int], ignore: int | None) -> npt.NDArray[np.uint8]:
    if label.dtype.kind == "f" and not (label == np.rint(label)).all():
        raise LabelError("the label holds fractions, expected whole numbers", hint="write it uninterpolated")
    indices = np.zeros(label.shape, dtype=np.uint8)
    for index, value in enumerate(values[1:], start=1):
        indices[label == value] = index
    if ignore is not None:
        indices[label == ignore] = IGNORED
    return indices


def _check_model_grid(array: Array, trail: Trail) -> None:
    if array.ndim != 4 or array.shape[1:] != trail.model_shape:
        raise GeometryError(f"got an array of shape {array.shape}, expected (C, *{trail.model_shape})")


def _mask(trail: Trail, values: Sequence[int], decide: Callable[[Resizing, slice], Codes]) -> Array:
    """File values (I, J, K) on the original grid, made of positions in `values` that are decided slab by slab."""
    result = blank_mask(trail, values)
    file_values = np.array(values, dtype=result.dtype)
    counted = np.array_equal(file_values, np.arange(len(values)))
    upright = oriented(result, trail.axes, trail.flips)[0, *trail.box]
    resizing = Resizing.between(trail.model_shape, trail.cropped_shape)

    def work(rows: slice) -> None:
        codes = decide(resizing, rows)
        upright[rows] = codes if counted else file_values.take(codes)

    each_slab(work, trail.cropped_shape[0], resizing.rows(SLAB_VOXELS))
    return np.asarray(result[0])


def smallest_integer(values: Sequence[int]) -> type[np.integer[Any]]:
    """The dtype of masks that hold these values. Raises: LabelError when no integer does."""
    for kind in _INTEGERS:
        if np.iinfo(kind).min <= min(values) and max(values) <= np.iinfo(kind).max:
            return kind
    raise LabelError(f"label values {min(values)} to {max(values)} do not fit into 64 bits")
