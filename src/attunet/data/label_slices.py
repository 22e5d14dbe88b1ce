"""Labels of pictures, one for each slice of a series of DICOM, which give no positions: the files of the series do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from attunet.data.dataset import LabelFiles, LabelPart
from attunet.data.formats import read_label, stem_of
from attunet.data.formats.dicom import DicomSeries
from attunet.data.volume import Array, Volume
from attunet.errors import FormatError, GeometryError

__all__ = ["order_of_pictures", "read_label_slices", "slice_pictures"]

HINT = "name the pictures like the files of the series, or write the label as one volume, such as .nii.gz"


def slice_pictures(paths: Iterable[Path]) -> LabelFiles:
    """The label that pictures make up, one for each slice."""
    return LabelFiles("slice", tuple(LabelPart("", 0, path) for path in sorted(paths, key=_in_natural_order)))


def read_label_slices(label: LabelFiles, series: DicomSeries) -> Volume:
    """Read pictures as the label of a series, each at the position of its slice.

    Args:
        label: the pictures, as many as the series has slices.
        series: the series.
    Returns: one channel of integers on the grid of the series.
    Raises: FormatError when it is not certain which picture belongs to which slice, GeometryError when a picture has
        another size, LabelError as `read_label`.
    """
    masks: list[Array] = []
    for path in _in_order_of_slices([part.path for part in label.parts], series):
        mask = read_label(path).array
        columns, rows, _ = series.shape
        if mask.shape != (1, rows, columns, 1):
            raise GeometryError(
                f"{path} has {mask.shape[2]} x {mask.shape[1]} pixels, the slices of its series {columns} x {rows}",
                hint="export it again, in the size of the image",
            )
        masks.append(mask[0, :, :, 0].T)
    return Volume(np.stack(masks, axis=-1)[None], series.affine)


def order_of_pictures(label: LabelFiles, series: DicomSeries) -> str | None:
    """How the pictures of a label were matched with the slices of a series, where their names are not the same.

    Raises: FormatError as `read_label_slices`.
    """
    ordered = _in_order_of_slices([part.path for part in label.parts], series)
    first, last = series.slices[0], series.slices[-1]
    if len(ordered) == 1 or all(
        stem_of(path) == stem_of(one.path) for path, one in zip(ordered, series.slices, strict=True)
    ):
        return None
    ends = f"{ordered[0].name} is {first.name}, {ordered[-1].name} is {last.name}"
    return f"pictures go with the slices of the series in the order of their names: {ends}"


def _in_order_of_slices(pictures: Sequence[Path], series: DicomSeries) -> list[Path]:
    """The pictures in the order of the slices that they belong to.

    Raises: FormatError as `read_label_slices`.
    """
    count = len(series.slices)
    if len(pictures) != count:
        raise FormatError(f"there are {len(pictures)} pictures for {count} slices of {series.key}", hint=HINT)
    named = {stem_of(path): path for path in pictures}
    stems = [stem_of(one.path) for one in series.slices]
    if len(named) == count and set(stems) == named.keys():
        return [named[stem] for stem in stems]
    written = sorted(
        range(count), key=lambda index: (_in_natural_order(series.slices[index].path), series.slices[index].frame)
    )
    numbers = [series.slices[index].instance for index in written]
    known = [number for number in numbers if number is not None]
    if len(series.files) > 1 and known and (len(known) < count or known != sorted(known)):
        raise FormatError(
            f"the files of {series.key} are in another order by name than by InstanceNumber, so that it is not certain "
            "which picture belongs to which slice",
            hint=HINT,
        )
    ordered = sorted(pictures, key=_in_natural_order)
    placed = dict(zip(written, ordered, strict=True))
    return [placed[index] for index in range(count)]


def _in_natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts names by the numbers in them as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts], path.name
