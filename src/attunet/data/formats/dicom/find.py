"""Finding series: in a folder, in all folders of a disc, or in one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attunet.data.formats.dicom.assemble import assemble
from attunet.data.formats.dicom.headers import DicomHeader, read_header
from attunet.data.formats.dicom.kinds import left_out_as
from attunet.data.formats.dicom.recognise import dicom_files, is_dicom
from attunet.data.formats.dicom.series import DicomSeries, SeriesListing, SetAside
from attunet.errors import FormatError

__all__ = ["find_series"]

THREADS = 4
"""Headers are read in so many threads: on a slow disk, one waits while others are parsed."""


def find_series(path: Path) -> SeriesListing:
    """Find the series of a folder and of all folders in it, or those of a file.

    Raises: FormatError when there is no DICOM file, or pydicom is not installed.
    """
    candidates = list(dicom_files(path)) if path.is_dir() else [path]
    with ThreadPoolExecutor(THREADS) as pool:
        read = [header for header in pool.map(_header_if_dicom, candidates) if header is not None]
    if not read:
        raise FormatError(f"{path} contains no DICOM file", hint="check the path")
    headers = [header for header in read if isinstance(header, DicomHeader)]
    refused = [header for header in read if isinstance(header, SetAside)]
    left_out = _left_out(headers)
    series: list[DicomSeries] = []
    for group in _by_series(headers):
        found, unusable = assemble(group)
        series += found
        refused += unusable
    ordered = sorted(series, key=lambda one: (one.number is None, one.number, one.uid, one.part))
    return SeriesListing(path, tuple(ordered), tuple(left_out), tuple(refused))


def _header_if_dicom(path: Path) -> DicomHeader | SetAside | None:
    if not is_dicom(path):
        return None
    try:
        return read_header(path)
    except FormatError as error:
        return SetAside(path.name, error.message, (path,))


def _by_series(headers: Sequence[DicomHeader]) -> list[list[DicomHeader]]:
    groups: dict[str, list[DicomHeader]] = defaultdict(list)
    for header in headers:
        if header.slices and left_out_as(header.sop_class, header.image_type) is None:
            groups[header.series_uid].append(header)
    return list(groups.values())


def _left_out(headers: Sequence[DicomHeader]) -> list[SetAside]:
    found: dict[str, list[Path]] = defaultdict(list)
    for header in headers:
        what = left_out_as(header.sop_class, header.image_type)
        if what is not None or not header.slices:
            found[what or "object without pixels"].append(header.path)
    return [SetAside(what, "is no image to segment", tuple(files)) for what, files in found.items()]
