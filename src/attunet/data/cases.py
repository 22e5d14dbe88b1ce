"""Cases: reading their images and labels on one grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from attunet.data.alignment import GeometryPolicy, align_label, check_same_grid
from attunet.data.dataset import Case, Dataset, DatasetOptions, LabelFiles, Problem
from attunet.data.formats import (
    NoticeHook,
    check_header,
    files_outside,
    holds_named_masks,
    is_dicom_image,
    is_picture,
    read_masks,
    read_volume,
    refers_elsewhere,
    suffix_of,
)
from attunet.data.formats.dicom import choose_series
from attunet.data.label_files import read_label_files
from attunet.data.label_slices import order_of_pictures, read_label_slices, slice_pictures
from attunet.data.layouts import read_dataset
from attunet.data.layouts.find import find_cases
from attunet.data.volume import Volume
from attunet.errors import AttunetError, LabelError

__all__ = [
    "Case",
    "Dataset",
    "DatasetOptions",
    "GeometryPolicy",
    "Problem",
    "check_case_headers",
    "find_cases",
    "image_warnings",
    "output_suffix",
    "read_case",
    "read_case_image",
    "read_case_label",
    "read_dataset",
    "read_own_label",
    "source_uids",
]


def read_case_image(case: Case, *, alpha: bool = False) -> Volume:
    """Read the image of a case, the channels of its files in order, on the grid of the first file.

    What pictures call alpha is left out, unless `alpha` is set.
    Raises: FormatError when a file cannot be read, GeometryError when the files are on different grids.
    """
    with files_outside(case.allow_outside):
        volumes = [read_volume(path, key=case.key, frame=case.frame, alpha=alpha) for path in case.images]
    first = next((volume for volume in volumes if volume.calibrated), volumes[0])
    for path, volume in zip(case.images[1:], volumes[1:], strict=True):
        names = f"{case.images[0].name} and {path.name} of case {case.id}"
        hint = "resample the channels of a case onto one grid"
        check_same_grid(first, volume, names, hint=hint)
    if len(volumes) == 1:
        return first
    return first.with_array(np.concatenate([volume.array for volume in volumes]))


def read_case_label(
    case: Case,
    image: Volume | None = None,
    *,
    geometry: GeometryPolicy = "fail",
) -> Volume:
    """Read the label of a case.

    Args:
        case: the case.
        image: its image; None: it is read from its files.
        geometry: what to do when the grids of label and image differ, see `align_label`.
    Returns: one channel of integers on the grid of the image, values as in the file.
    Raises: LabelError when the case has no label or the values are not whole numbers, FormatError when a file
        cannot be read, GeometryError when the label cannot be aligned with the image.
    """
    grid = read_case_image(case) if image is None else image
    return align_label(read_own_label(case, grid), grid, case.id, geometry=geometry)


def read_own_label(case: Case, image: Volume | None = None, *, on_notice: NoticeHook = lambda _notice: None) -> Volume:
    """Read the label of a case on its own grid, which may differ from that of the image.

    Segments and ROIs of DICOM are placed on the grid of the image, where they lie on it.

    Args:
        case: the case.
        image: its image; None: it is read where the label needs its grid.
        on_notice: called with what is odd about a mask.
    Returns: one channel of integers, values as in the file.
    Raises: LabelError and FormatError as `read_case_label`, GeometryError when the files of a label are on different
        grids.
    """
    if case.label is None:
        raise LabelError(f"case {case.id} has no label", hint="add its mask, or leave the case out")
    if case.label in case.images and case.label_key is None:
        raise LabelError(
            f"{case.label} is both image and label of case {case.id}",
            hint="name the arrays of both with --key and --label-key",
        )
    if image is None and any(map(holds_named_masks, case.label_paths)):
        image = read_case_image(case)
    key, frame = case.label_key, case.frame
    if (pictures := _pictures_of_slices(case)) is not None:
        return read_label_slices(pictures, choose_series(case.images[0], case.key))
    with files_outside(case.allow_outside):
        if isinstance(case.label, LabelFiles):
            return read_label_files(case.label, key=key, frame=frame, grid=image, on_notice=on_notice)
        return next(read_masks(case.label, [key], frame=frame, grid=image, on_notice=on_notice))


def _pictures_of_slices(case: Case) -> LabelFiles | None:
    """The pictures that are the label of a series of DICOM, which has no position without it; None for other labels."""
    if isinstance(case.label, LabelFiles):
        return case.label if case.label.kind == "slice" else None
    single = case.label is not None and is_picture(case.label) and is_dicom_image(case.images[0])
    return slice_pictures(case.label_paths) if single else None


def read_case(case: Case, *, geometry: GeometryPolicy = "fail") -> tuple[Volume, Volume | None]:
    """Read image and label of a case on one grid; the label is None if the case has none.

    Raises: as `read_case_image` and `read_case_label`.
    """
    image = read_case_image(case)
    return image, None if case.label is None else read_case_label(case, image, geometry=geometry)


def check_case_headers(case: Case) -> list[Problem]:
    """Warnings about what the readers of a case's files convert, choose or leave out, see `check_header`."""
    labels = set(case.label_paths)
    found = [
        problem
        for path in case.paths
        for problem in check_header(path, key=case.label_key if path in labels else case.key, label=path in labels)
    ]
    return [replace(problem, case=case.id) for problem in (*found, *_of_another_series(case), *_by_order(case))]


def _of_another_series(case: Case) -> Iterator[Problem]:
    """A warning for each label of DICOM that refers to other series than that of the image; none if unreadable."""
    for path in case.label_paths:
        with suppress(AttunetError):
            if holds_named_masks(path) and refers_elsewhere(path, case.images[0], case.key):
                message = f"{path.name} refers to another series than that of the image"
                yield Problem("", "another series", message, "check that they belong together", "warning")


def _by_order(case: Case) -> Iterator[Problem]:
    """A warning about pictures that go with the slices of a series by their order; none where they cannot be read."""
    with suppress(AttunetError):
        if case.images and (pictures := _pictures_of_slices(case)) is not None:
            order = order_of_pictures(pictures, choose_series(case.images[0], case.key))
            if order is not None:
                yield Problem("", "order of pictures", order, "check that both orders are the same", "warning")


def image_warnings(case: Case) -> tuple[str, ...]:
    """What the readers of a case's images convert, choose or leave out, in sentences."""
    return tuple(f"{problem.message} ({problem.remedy})" for problem in check_case_headers(replace(case, label=None)))


def source_uids(case: Case) -> dict[str, str]:
    """The UIDs of the series of DICOM that the image of a case is, for traceability; empty for other formats."""
    if not case.images or not is_dicom_image(case.images[0]):
        return {}
    try:
        series = choose_series(case.images[0], case.key)
    except AttunetError:
        return {} if case.key is None else {"series_uid": case.key}
    return {
        "study_uid": series.study_uid,
        "series_uid": series.uid,
        **({"part": str(series.part)} if series.part else {}),
    }


def output_suffix(case: Case) -> str:
    """The suffix of a case's results: that of its image, or .nii.gz where it is unknown."""
    return suffix_of(case.images[0]) or ".nii.gz"
