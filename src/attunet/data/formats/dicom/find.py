"""Finding series: in a folder and all folders in it, such as a disc, in an archive, or in one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from attunet.data.formats.dicom.archive import extract
from attunet.data.formats.dicom.assemble import assemble
from attunet.data.formats.dicom.data_sets import parsing, read_elements
from attunet.data.formats.dicom.elements import text_of, texts_of, values_of
from attunet.data.formats.dicom.headers import DicomHeader, read_header
from attunet.data.formats.dicom.kinds import identify, left_out_as
from attunet.data.formats.dicom.recognise import DICOM_SUFFIXES, dicom_files, is_archive, is_dicom
from attunet.data.formats.dicom.series import DicomSeries, SeriesListing, SetAside
from attunet.errors import FormatError
from attunet.names import listed

__all__ = ["find_series"]

THREADS = 4
"""Headers are read in so many threads: on a slow disk, one waits while others are parsed."""
MOST_LISTINGS = 8
"""Listings that are kept, so that the cases of a disc do not each read all headers of the disc."""
DIRECTORY, RECORDS, IMAGE = "dicomdir", "DirectoryRecordSequence", "IMAGE"
"""Name of the directory of a disc, the element that lists the disc, and what it calls an image."""
States = tuple[tuple[Path, int, int], ...]

_LISTINGS: dict[Path, tuple[States, SeriesListing]] = {}
_LOCK = Lock()


def find_series(path: Path) -> SeriesListing:
    """Find the series of a folder and of all folders in it, of an archive, or of a file.

    A listing is kept until a file changes.
    Raises: FormatError when there is no DICOM file, EngineError when pydicom is not installed.
    """
    root = path.parent if path.is_file() and _is_directory(path) else path
    states = tuple(_states(dicom_files(root) if root.is_dir() else [root]))
    with _LOCK:
        kept = _LISTINGS.get(root)
    if kept is not None and kept[0] == states:
        return kept[1]
    found = _list_archive(root) if is_archive(root) else _list(root, [file for file, _, _ in states])
    with _LOCK:
        _LISTINGS.pop(root, None)
        _LISTINGS[root] = states, found
        while len(_LISTINGS) > MOST_LISTINGS:
            del _LISTINGS[next(iter(_LISTINGS))]
    return found


def _states(files: Iterable[Path]) -> Iterator[tuple[Path, int, int]]:
    """Size and time of each file that is there: links to nothing are none."""
    for file in files:
        with suppress(OSError):
            stat = file.stat()
            yield file, stat.st_size, stat.st_mtime_ns


def _list_archive(path: Path) -> SeriesListing:
    extracted = extract(path)
    found = _list(path, list(dicom_files(extracted.folder)))
    return replace(found, series=tuple(replace(one, owner=extracted) for one in found.series))


def _list(path: Path, files: Sequence[Path]) -> SeriesListing:
    with ThreadPoolExecutor(THREADS) as pool:
        read = [header for header in pool.map(_header_if_dicom, files) if header is not None]
    if not read:
        raise FormatError(f"{path} contains no DICOM file", hint="check the path")
    headers = [header for header in read if isinstance(header, DicomHeader)]
    groups = _by_series(headers)
    lost = _lost_slices(read, groups)
    damaged = {path for found in lost.values() for path in found}
    series: list[DicomSeries] = []
    refused = [header for header in read if isinstance(header, SetAside) and header.files[0] not in damaged]
    strangers = _strangers(files, {header.path for header in headers})
    left_out = [*_left_out([header for header in headers if header.path not in damaged]), *strangers]
    if archives := tuple(file for file in files if is_archive(file)):
        left_out.append(SetAside("archive", "is not opened in a folder: pass it by itself", archives))
    for uid, group in groups.items():
        volumes, without, unusable = assemble(group, lost[uid])
        series += volumes
        left_out += without
        refused += unusable
    series = [_beside(strangers, one) for one in series]
    series.sort(key=lambda one: (one.number is None, one.number, one.uid, one.part))
    absent = _absent_files([header.path for header in headers if _is_directory(header.path)])
    notices = [f"the directory of the disc (DICOMDIR) names {len(absent)} files that it lacks: {listed(absent, 4)}"]
    return SeriesListing(path, tuple(series), tuple(left_out), tuple(refused), tuple(notices if absent else ()))


def _header_if_dicom(path: Path) -> DicomHeader | SetAside | None:
    if not is_dicom(path):
        return None
    try:
        return read_header(path)
    except FormatError as error:
        return SetAside(path.name, error.message, (path,))


def _by_series(headers: Sequence[DicomHeader]) -> dict[str, list[DicomHeader]]:
    groups: dict[str, list[DicomHeader]] = defaultdict(list)
    for header in headers:
        if header.slices and left_out_as(header.sop_class, header.image_type) is None:
            groups[header.series_uid].append(header)
    return dict(groups)


class _Damaged(NamedTuple):
    """A file without an image: its path, why in a sentence, and its class and series, empty where it does not say."""

    path: Path
    why: str
    sop_class: str
    series_uid: str


def _without_image(read: Sequence[DicomHeader | SetAside]) -> Iterator[_Damaged]:
    for one in read:
        if isinstance(one, SetAside):
            kind = identify(one.files[0])
            yield _Damaged(kind.path, one.why, kind.sop_class, kind.series.uid)
        elif not one.slices and not _is_directory(one.path):
            why = f"{one.path.name} holds no image, and may be cut off"
            yield _Damaged(one.path, why, one.sop_class, one.series_uid)


def _lost_slices(
    read: Sequence[DicomHeader | SetAside], groups: Mapping[str, Sequence[DicomHeader]]
) -> dict[str, dict[Path, str]]:
    """For each series the files that should be its slices and hold no image, and why.

    They name the series, or lie in a folder of no other; and are of the kind of its images, or do not say of which.
    """
    folders: dict[Path, set[str]] = defaultdict(set)
    for uid, group in groups.items():
        for header in group:
            folders[header.path.parent].add(uid)
    lost: dict[str, dict[Path, str]] = {uid: {} for uid in groups}
    for one in _without_image(read):
        owners = {one.series_uid} if one.series_uid else folders.get(one.path.parent, set())
        for uid in owners & groups.keys() if len(owners) == 1 else ():
            if one.sop_class in ("", *(header.sop_class for header in groups[uid])):
                lost[uid][one.path] = one.why
    return lost


def _beside(strangers: Sequence[SetAside], series: DicomSeries) -> DicomSeries:
    """A series with a notice about files in its folder that are called like its own."""
    folders = {file.parent for file in series.files}
    names = [file.name for aside in strangers for file in aside.files if file.parent in folders]
    told = f"files beside it are called like its own and are no DICOM, or empty: {listed(names, 4)}"
    return replace(series, notices=(*series.notices, told)) if names else series


def _left_out(headers: Sequence[DicomHeader]) -> list[SetAside]:
    """Objects that are no images to segment, by what they are."""
    found: dict[str, list[Path]] = defaultdict(list)
    for header in headers:
        what = left_out_as(header.sop_class, header.image_type)
        if (what is not None or not header.slices) and not _is_directory(header.path):
            found[what or "object without pixels"].append(header.path)
    return [SetAside(what, "is no image to segment", tuple(files)) for what, files in found.items()]


def _is_directory(path: Path) -> bool:
    """Whether a file is called DICOMDIR, in letters of any case."""
    return path.name.lower() == DIRECTORY


def _absent_files(directories: Sequence[Path]) -> list[str]:
    """The images that directories name and that are not there, by their names on the disc; none if unreadable.

    Systems show the names of a disc in letters of either case, with a dot or a version behind them.
    """
    absent: list[str] = []
    for directory in directories:
        root = directory.parent
        there = {_folded(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
        with suppress(FormatError), parsing(directory):
            for record in values_of(read_elements(directory, (RECORDS,)).dataset, RECORDS):
                parts = texts_of(record, "ReferencedFileID")
                if text_of(record, "DirectoryRecordType") == IMAGE and parts and _folded(Path(*parts)) not in there:
                    absent.append("/".join(parts))
    return absent


def _folded(path: Path) -> str:
    return path.as_posix().lower().partition(";")[0].rstrip(".")


def _strangers(files: Sequence[Path], known: Collection[Path]) -> list[SetAside]:
    """Files that are called like DICOM, or like the DICOM files beside them, and are none: cut off, perhaps."""
    beside: dict[Path, set[str]] = defaultdict(set)
    for file in known:
        beside[file.parent].add(_ending(file))
    others = [file for file in files if file not in known and not is_dicom(file)]
    doubtful = [file for file in others if _ending(file) in (*DICOM_SUFFIXES, *beside.get(file.parent, ()))]
    why = "is called like the DICOM files beside it and is none, or is empty"
    return [SetAside("file", why, tuple(doubtful))] if doubtful else []


def _ending(file: Path) -> str:
    """The suffix of a file in letters; a number at the end of a UID is none."""
    suffix = file.suffix.lower()
    return suffix if suffix[1:].isalpha() else ""
