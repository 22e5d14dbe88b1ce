"""A series of DICOM as an image of a case: the one of a file, folder or archive, or the one that a key names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from attunet.data.dataset import Problem
from attunet.data.formats.dicom.find import find_series
from attunet.data.formats.dicom.pixels import read_series
from attunet.data.formats.dicom.series import DicomSeries, is_chosen
from attunet.data.formats.series import WHOLE, WhatToRead
from attunet.data.volume import Volume
from attunet.errors import FormatError
from attunet.names import listed

__all__ = ["check_dicom", "choose_series", "describe_series", "read_dicom"]


def read_dicom(path: Path, part: WhatToRead = WHOLE) -> Volume:
    """Read the series of a file, a folder or an archive that the key names, or its only one.

    Raises: FormatError as `choose_series` and `read_series`.
    """
    return read_series(choose_series(path, part.key))


def check_dicom(path: Path, key: str | None = None) -> Iterator[Problem]:
    """Warnings about what was odd, guessed or left out in a series. Raises: as `choose_series`."""
    for notice in choose_series(path, key).notices:
        yield Problem("", "DICOM", notice, "nothing, if this is right", "warning")


def choose_series(path: Path, key: str | None = None) -> DicomSeries:
    """The series of a file, a folder or an archive that a key names.

    Args:
        path: the file, folder or archive.
        key: a SeriesInstanceUID, with # and the number of the part where a series has several; or a SeriesNumber, also
            with a part. None for the only series.
    Returns: the series.
    Raises: FormatError when there is none, when several are possible, and with the reason for a refused one.
    """
    listing = find_series(path)
    found = [one for one in listing.series if key is None or is_chosen(one.key, one.number, key)]
    refused = [one for one in listing.refused if key is None or is_chosen(one.key, one.number, key)]
    if len(found) == 1 and (key is None or not refused):
        return found[0]
    if found:
        known = listed([describe_series(one) for one in found], 5)
        raise FormatError(
            f"{path} contains {len(found)} series: {known}",
            hint="choose one with --series, or by its key in the column key of a CSV file",
        )
    if refused:
        raise FormatError(f"{path} cannot be read exactly: {refused[0]}", hint="export the series again")
    wanted = "" if key is None else f" {key}"
    reasons = f" ({listing.left_out[0]})" if listing.left_out else ""
    raise FormatError(f"{path} contains no series{wanted} to segment{reasons}", hint="check the path")


def describe_series(series: DicomSeries) -> str:
    """A series in a few words: its number, description, slices, modality and key."""
    number = "without number" if series.number is None else f"{series.number}"
    words = [series.description, f"{series.shape[2]} slices", series.modality, series.key]
    return f"{number} ({', '.join(word for word in words if word)})"
