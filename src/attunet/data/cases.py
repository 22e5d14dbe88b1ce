"""Cases: finding them, and reading their images and labels on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attunet.data.alignment import TOLERANCE_MM, GeometryPolicy, align_label, check_same_grid
from attunet.data.dataset import Case, Dataset, Problem
from attunet.data.formats import read_label, read_volume, stem_of
from attunet.data.formats.dicom import CONVERT, series_in
from attunet.data.layouts import read_dataset
from attunet.data.layouts.image_files import by_channel, channel_of, image_files
from attunet.data.volume import Volume
from attunet.errors import DatasetError, LabelError

__all__ = [
    "Case",
    "Dataset",
    "GeometryPolicy",
    "Problem",
    "find_cases",
    "read_case",
    "read_case_image",
    "read_case_label",
    "read_dataset",
]


def read_case_image(case: Case, *, tolerance_mm: float = TOLERANCE_MM) -> Volume:
    """The image of a case, the channels of its files one after the other on the grid of the first.

    Raises: FormatError when a file cannot be read, GeometryError when the files lie on different grids.
    """
    volumes = [read_volume(path) for path in case.images]
    first = volumes[0]
    for path, volume in zip(case.images[1:], volumes[1:], strict=True):
        names = f"{case.images[0].name} and {path.name} of case {case.id}"
        hint = "resample the channels of a case onto one grid"
        check_same_grid(first, volume, names, hint=hint, tolerance_mm=tolerance_mm)
    if len(volumes) == 1:
        return first
    return first.with_array(np.concatenate([volume.array for volume in volumes]))


def read_case_label(
    case: Case,
    image: Volume | None = None,
    *,
    geometry: GeometryPolicy = "fail",
    tolerance_mm: float = TOLERANCE_MM,
) -> Volume:
    """The label of a case on the grid of its image: one channel of integers, values as in the file.

    Args: the image, if it has been read already; what to do when the grids differ (see `align_label`).
    Raises: FormatError, LabelError when the case has no label or it holds no whole numbers, GeometryError.
    """
    if case.label is None:
        raise LabelError(f"case {case.id} has no label", hint="add its mask, or leave the case out")
    label = read_label(case.label)
    grid = read_case_image(case) if image is None else image
    return align_label(label, grid, case.id, geometry=geometry, tolerance_mm=tolerance_mm)


def read_case(case: Case, *, geometry: GeometryPolicy = "fail") -> tuple[Volume, Volume | None]:
    """Image and label of a case on one grid; None for the label of a case that has none.

    Raises: as `read_case_image` and `read_case_label`.
    """
    image = read_case_image(case)
    return image, None if case.label is None else read_case_label(case, image, geometry=geometry)


def find_cases(paths: Sequence[Path], channels: int) -> tuple[Case, ...]:
    """The cases to predict in files and folders, in the order given; a folder's files sorted by name.

    Files named CASE_0000, CASE_0001 are the channels of one case if the model wants several and all are named
    so; for a model of one channel, _0000 is dropped from the id when all carry it. A file that is named
    itself is taken whatever its suffix, so that reading it can say what is wrong with it.
    Raises: DatasetError when a path is missing, a folder holds no image or two files would share an id.
    """
    files = list(dict.fromkeys(file for path in paths for file in _files(path)))
    named = [channel_of(file) for file in files]
    if files and all(name is not None and name[1] < channels for name in named):
        grouped = by_channel(files)
        return tuple(
            Case(id, tuple(numbered[number] for number in sorted(numbered)), None) for id, numbered in grouped.items()
        )
    cases: dict[str, Case] = {}
    for file in files:
        id = stem_of(file)
        if id in cases:
            raise DatasetError(
                f"{cases[id].images[0]} and {file} would both be written as {id}",
                hint="predict them into two folders, or rename one",
            )
        cases[id] = Case(id, (file,), None)
    return tuple(cases.values())


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f"there is no file or folder {path}", hint="check the path")
    if files := image_files(path):
        return files
    if series_in(path) or any(series_in(entry) for entry in path.iterdir() if entry.is_dir()):
        raise DatasetError(f"{path} holds DICOM files, which are not read yet", hint=CONVERT)
    raise DatasetError(f"the folder {path} holds no image of a known format", hint="name a folder with image files")
