"""From the patient's grid to the network's: image and label. `restore.py` has the inverse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from attunet.config import IGNORED, Preprocessing
from attunet.data.labels import Values
from attunet.data.normalization import mean_and_std, normalize
from attunet.data.orientation import Triple, canonical, content_box, oriented
from attunet.data.resample import resize_into, resize_labels
from attunet.data.restore import PreprocessingRecord
from attunet.data.volume import Array, Volume
from attunet.errors import DataError, GeometryError, LabelError

__all__ = ["IGNORED", "Preparation", "Prepared", "begin_preparation", "prepare", "prepare_label"]

Allow = Callable[[int], None]
Box = tuple[slice, slice, slice]
Image = npt.NDArray[np.float32]

FEW_VALUES = 16
_LARGEST_GRID = 2**31


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network's input, float32 (C, I, J, K), and the record of the preprocessing."""

    array: Image
    record: PreprocessingRecord


@dataclass(frozen=True, eq=False)
class Preparation:
    """An image before its preprocessing: the model grid is known, and nothing is resampled yet.

    Args:
        oriented: the image in model axes, a view.
        record: what will be done.
    """

    oriented: Volume
    record: PreprocessingRecord

    def at_spacing(self, spacing: tuple[float, float, float]) -> Preparation:
        """The preparation of the same content for a grid of another spacing and the same extent.

        Args:
            spacing: voxel size of that grid in mm, as in the plan's settings.
        Returns: the preparation.
        Raises: GeometryError as `begin_preparation`.
        """
        settings = self.record.preprocessing.model_copy(update={"spacing": spacing})
        shape = _model_shape(self.record.cropped_shape, self.oriented, settings)
        return replace(self, record=replace(self.record, model_shape=shape, preprocessing=settings))

    def finish(self, box: Box | None = None, allow: Allow = lambda _bytes: None) -> Prepared:
        """Resample to the plan's spacing, and normalize.

        Args:
            box: the part of the model grid that is needed; its numbers are those of the whole. The rest stays 0, and
                takes neither time nor memory. None for all of it.
            allow: called with the bytes of the result before they are taken; it raises an error to refuse them.
        Returns: the network's input and the record of the steps.
        """
        shape, settings = self.record.model_shape, self.record.preprocessing
        content = self.oriented.array[:, *self.record.box]
        i, j, k = box or (slice(0, size) for size in shape)
        allow(4 * len(content) * prod(part.stop - part.start for part in (i, j, k)))
        array = (np.zeros if box else np.empty)((len(content), *shape), dtype=np.float32)
        for target, channel, normalization in zip(array, content, settings.normalization, strict=True):
            mean, std = mean_and_std(channel, normalization)
            resize_into(target, channel, antialias=True, box=(i, j, k))
            normalize(target[i, j, k], normalization, mean, std)
        return Prepared(array, self.record)


def prepare(volume: Volume, preprocessing: Preprocessing, allow: Allow = lambda _bytes: None) -> Prepared:
    """Canonical axes, crop to content, resample to the plan's spacing, normalize.

    Args:
        volume: the image.
        preprocessing: the plan's settings.
        allow: as for `Preparation.finish`.
    Returns: the network's input and the record of the steps.
    Raises: as `begin_preparation`.
    """
    return begin_preparation(volume, preprocessing).finish(allow=allow)


def begin_preparation(volume: Volume, preprocessing: Preprocessing) -> Preparation:
    """Canonical axes, crop to content; the rest is up to `Preparation.finish`.

    Args:
        volume: the image.
        preprocessing: the plan's settings.
    Returns: the content of the image, and the record of all steps.
    Raises: DataError when the channels differ from the plan's or the values are complex, NaN or infinite;
        GeometryError when the volume's spacing asks for an impossibly large grid.
    """
    _check(volume, preprocessing)
    reoriented, axes, flips = canonical(volume, preprocessing.slice_axis)
    # Values below the clipping bound carry no information: noise in the air around a patient is not content.
    floors = [channel.lower if channel.kind == "ct" else -np.inf for channel in preprocessing.normalization]
    start, cropped_shape = content_box(reoriented.array, crop=preprocessing.crop_to_content, floors=floors)
    record = PreprocessingRecord(
        affine=volume.affine,
        shape=volume.spatial_shape,
        axes=axes,
        flips=flips,
        start=start,
        cropped_shape=cropped_shape,
        model_shape=_model_shape(cropped_shape, reoriented, preprocessing),
        preprocessing=preprocessing,
    )
    return Preparation(reoriented, record)


def prepare_label(
    label: Volume, record: PreprocessingRecord, values: Sequence[Values], ignore: int | None = None
) -> Array:
    """The label of a prepared image as class indices (I, J, K) on the model grid: uint8, or int16 beyond 255 classes.

    Args:
        label: on the image's own grid.
        record: of the image's preprocessing.
        values: of each class in the file, background first (`Plan.file_classes`); others become background.
        ignore: value of voxels to leave out of the loss, which become `IGNORED`; None for none.
    Returns: class indices.
    Raises: GeometryError when the grid differs from the image's, LabelError for channels or fractions.
    """
    if label.spatial_shape != record.shape:
        raise GeometryError(
            f"label grid {label.spatial_shape} differs from image grid {record.shape}",
            hint="resample the label onto the image",
        )
    if label.channels != 1:
        raise LabelError(f"the label has {label.channels} channels, expected 1", hint="write one value per voxel")
    reoriented = oriented(label.array, record.axes, record.flips)
    return resize_labels(_class_indices(reoriented[0, *record.box], values, ignore), record.model_shape)


def _check(volume: Volume, preprocessing: Preprocessing) -> None:
    expected = len(preprocessing.normalization)
    if volume.channels != expected:
        raise DataError(
            f"the image has {volume.channels} channels, expected {expected}",
            hint="give the same channels in the same order as in training",
        )
    if volume.array.dtype.kind not in "biuf":
        raise DataError(f"the image contains {volume.array.dtype}, expected real numbers", hint="convert the image")
    # The extremes show NaN and infinities without a mask of the volume's size.
    extremes = float(volume.array.min()), float(volume.array.max())
    if not all(abs(value) <= float(np.finfo(np.float32).max) for value in extremes):
        raise DataError(
            "the image contains NaN or infinite values, expected finite numbers",
            hint="replace them with a number, such as the value of air or background",
        )


def _model_shape(cropped: Triple, reoriented: Volume, preprocessing: Preprocessing) -> Triple:
    size = np.multiply(cropped, reoriented.spacing) / preprocessing.spacing
    # A single slice has no neighbours to interpolate between: it stays one.
    size = np.where(np.equal(reoriented.spatial_shape, 1), 1.0, np.maximum(1.0, np.floor(size + 0.5)))
    if size.prod() > _LARGEST_GRID:
        raise GeometryError(
            f"spacing {reoriented.spacing} mm requires a model grid of {size.tolist()} voxels",
            hint="check the voxel size in the file's header",
        )
    return int(size[0]), int(size[1]), int(size[2])


def _class_indices(label: Array, values: Sequence[Values], ignore: int | None) -> Array:
    if label.dtype.kind == "f" and not (label == np.rint(label)).all():
        raise LabelError(
            "the label contains fractions, expected whole numbers", hint="resample labels with nearest neighbour"
        )
    index = {value: number for number, united in enumerate(values) for value in _tuple(united)}
    index |= {} if ignore is None else {ignore: IGNORED}
    indices = np.zeros(label.shape, np.uint8 if len(values) <= IGNORED + 1 else np.int16)
    if len(index) <= FEW_VALUES:
        for value, number in index.items():
            if number:
                indices[label == value] = number
        return indices
    known, numbers = np.array(sorted(index)), np.array([index[value] for value in sorted(index)], indices.dtype)
    for source, target in zip(label, indices, strict=True):  # searching takes eight bytes a voxel
        places = np.minimum(np.searchsorted(known, source), len(known) - 1)
        target[...] = np.where(known[places] == source, numbers[places], 0)
    return indices


def _tuple(values: Values) -> tuple[int, ...]:
    return (values,) if isinstance(values, int) else values
