"""The files of a server: uploads and results, each in a folder with a name of ours, complete or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from attunet.data.formats import suffix_of
from attunet.data.formats.dicom.recognise import ARCHIVE, HEAD, looks_like_dicom
from attunet.errors import BusyError, DatasetError, FormatError
from attunet.names import printable
from attunet.serve.records import Scan

__all__ = ["NEEDS_ANOTHER", "FileStore", "ResultFile", "Upload", "is_ours"]

PRIVATE = 0o700
LONGEST_SHOWN = 120
CHANNELS = 16
_MANIFEST = "results.json"
_NUMBERED = re.compile(r"(.*)_(\d{4})")
NEEDS_ANOTHER = (".mhd", ".nhdr", ".hdr", ".hdr.gz", ".img", ".img.gz", ".ome.zarr", ".zarr")
"""Formats of several files, whose headers name the others by what clients call them."""


@dataclass(frozen=True)
class Upload:
    """A file that came in.

    Args:
        path: where it is.
        name: what the client calls it.
        size: its bytes.
    """

    path: Path
    name: str
    size: int


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """A result of a job.

    Args:
        name: its name in addresses.
        title: what it shows, for people, such as the name of a gate.
        file: its path within the folder of the results.
        media_type: its type.
        bytes: its size.
    """

    name: str
    title: str
    file: str
    media_type: str
    bytes: int = 0


class FileStore:
    """The folder of a server's data.

    Args:
        folder: the folder, which only the server's user may enter.
        least_free: bytes of the disk that stay free.
        most: bytes that all uploads and results may take.
    """

    def __init__(self, folder: Path, least_free: int = 0, most: int = 2**62) -> None:
        self.folder, self._least_free, self._most = folder, least_free, most
        self._scans, self._results, self._work, self.incoming = (
            folder / name for name in ("scans", "results", "work", "incoming")
        )
        try:
            for part in (folder, self._scans, self._results, self._work, self.incoming):
                part.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            folder.chmod(PRIVATE)
        except OSError as error:
            raise FormatError(f"cannot write into {folder}: {error.strerror}", hint="choose another --data") from error

    @property
    def queue(self) -> Path:
        """The file of the queue."""
        return self.folder / "queue.sqlite"

    def check_room(self, used: int, coming: int = 0) -> None:
        """Refuse what would not fit. Args: bytes in use; bytes that come. Raises: BusyError."""
        free = shutil.disk_usage(self.folder).free
        if used + coming > self._most or free - coming < self._least_free:
            raise BusyError("there is no room for more uploads", hint="delete some, or send it again later")

    def receive(self) -> Path:
        """An empty folder for an upload in progress."""
        folder = self.incoming / uuid4().hex
        folder.mkdir(mode=PRIVATE)
        return folder

    def keep(self, folder: Path, uploads: Sequence[Upload]) -> Scan:
        """Make a scan of what came into a folder of `receive`; its files get names of ours.

        One file is an image or an archive of DICOM; several are files of DICOM series, or the channels of one image:
        in the order of CASE_0000, CASE_0001 where all are named so, else in that of the upload.

        Args: the folder; the files in it.
        Returns: the scan, which is not recorded yet.
        Raises: FormatError when they are no image that can be read.
        """
        given = [upload for upload in uploads if upload.size]
        if not given:
            raise FormatError("no file with any content was sent", hint="send it as a form field: -F file=@scan.nii.gz")
        kinds = {_kind(upload) for upload in given}
        if ".zip" in kinds and len(given) > 1:
            raise FormatError(f"an archive came together with {len(given) - 1} files", hint="send it alone")
        if kinds == {".dcm"}:
            path = _move_all(given, folder / "dicom", ".dcm") if len(given) > 1 else _rename(given[0], "scan.dcm")
        elif len(kinds) > 1:
            raise FormatError(
                f"files of several formats came together: {', '.join(sorted(kinds))}",
                hint="send one image, one file for each channel, or the files of DICOM series",
            )
        else:
            path = _images(given, folder, kinds.pop())
        for stray in set(folder.iterdir()) - {path}:
            stray.unlink()
        key, shown = uuid4().hex, printable(_shown_name(given))[:LONGEST_SHOWN]
        size = sum(upload.size for upload in given)
        scan = Scan(id=key, name=shown, path=path.name, files=len(given), bytes=size, created=time.time())
        _sync(path)
        folder.rename(self._scans / key)
        _sync(self._scans)
        return scan

    def scan(self, scan: Scan) -> Path:
        """Where a scan is kept."""
        return self._scans / scan.id / scan.path

    def in_words(self, text: str, scan: Path, name: str) -> str:
        """A message for people, who know the scan by its name, and to whom the folders of the server tell nothing.

        Args:
            text: the message.
            scan: where the scan is kept.
            name: what people call it; empty for "the scan".
        Returns: the message without a path of the server.
        """
        known = name or "the scan"
        folders = "|".join(re.escape(f"{kept.parent}/") for kept in (scan, scan.resolve()))
        whole = rf"(?:{folders}){re.escape(scan.name)}(?:/(?:scan_)?(\d{{4}})\.[\w.]*\w)?"
        alone = rf"|\b{re.escape(scan.name)}\b" if scan.is_file() and scan.is_relative_to(self._scans) else ""
        text = re.sub(whole + alone, lambda hit: f"file {int(hit[1]) + 1} of {known}" if hit[1] else known, text)
        for folder in (self.folder, self.folder.resolve()):
            text = re.sub(re.escape(f"{folder}/") + r"(?:work/[\w-]+/)?", "", text)
        return text

    def remove_scan(self, key: str) -> None:
        """Delete a scan that is no longer recorded."""
        shutil.rmtree(self._scans / key, ignore_errors=True)

    def work(self, name: str) -> Path:
        """An empty folder for a job in progress."""
        folder = self._work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=PRIVATE)
        return folder

    def publish(self, work: Path, files: Sequence[ResultFile]) -> tuple[str, int]:
        """Move the finished results of a job from its folder of `work` to where they are kept.

        Args: the folder; its results.
        Returns: the name of the new folder, and the bytes of the results.
        """
        sized = [ResultFile(**asdict(one) | {"bytes": (work / one.file).stat().st_size}) for one in files]
        (work / _MANIFEST).write_text(json.dumps([asdict(one) for one in sized]), encoding="utf-8")
        for one in sized:
            _sync(work / one.file)
        work.rename(self._results / work.name)
        _sync(self._results)
        return work.name, sum(one.bytes for one in sized)

    def results(self, folder: str) -> dict[str, ResultFile]:
        """The results in a folder by their names; empty when there are none."""
        try:
            content = json.loads((self._results / folder / _MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return {entry["name"]: ResultFile(**entry) for entry in content}

    def result(self, folder: str, name: str) -> tuple[ResultFile, Path]:
        """A result and its path. Raises: DatasetError when there is none of this name."""
        found = self.results(folder)
        if not folder or name not in found:
            known = ", ".join(found) or "none"
            raise DatasetError("there is no such result", hint=f"this job has: {known}")
        return found[name], self._results / folder / found[name].file

    def remove_results(self, folder: str) -> None:
        """Delete the results in a folder."""
        shutil.rmtree(self._results / folder, ignore_errors=True)

    def clear_unfinished(self, scans: set[str], folders: set[str]) -> int:
        """After a kill: delete what was being received or computed, and what is not recorded.

        Args: the ids of the recorded scans; the recorded folders of results.
        Returns: the number of folders that were deleted.
        """
        stray = [*self.incoming.iterdir(), *self._work.iterdir()]
        stray += [folder for folder in self._scans.iterdir() if folder.name not in scans]
        stray += [folder for folder in self._results.iterdir() if folder.name not in folders]
        for folder in stray:
            shutil.rmtree(folder, ignore_errors=True)
        return len(stray)


def _kind(upload: Upload) -> str:
    """The suffix under which an upload is kept: one of ours. Raises: FormatError when it is no image that is read."""
    with upload.path.open("rb") as stream:
        head = stream.read(HEAD)
    if looks_like_dicom(head):
        return ".dcm"
    if head.startswith(ARCHIVE) and upload.name.lower().endswith(".zip"):
        return ".zip"
    suffix = suffix_of(Path(upload.name.replace("\\", "/").rsplit("/", 1)[-1]))
    if suffix is None or suffix in NEEDS_ANOTHER:
        raise FormatError(
            "a file is of no format that can be uploaded",
            hint="send NIfTI, NRRD (.nrrd), MetaImage (.mha), TIFF, PNG, DICOM, or a .zip of DICOM files",
        )
    return suffix


def _images(given: Sequence[Upload], folder: Path, suffix: str) -> Path:
    if len(given) == 1:
        return _rename(given[0], f"scan{suffix}")
    if len(given) > CHANNELS:
        raise FormatError(f"{len(given)} images came at once, expected the channels of one", hint="send each alone")
    return _move_all(_in_order_of_channels(given, suffix), folder / "channels", suffix, "scan_")


def _in_order_of_channels(given: Sequence[Upload], suffix: str) -> Sequence[Upload]:
    """The channels of one image, by number where all have one. Raises: FormatError for those of several images."""
    found = [_NUMBERED.fullmatch(upload.name[: -len(suffix)].replace("\\", "/").rpartition("/")[2]) for upload in given]
    named = [(hit[1], int(hit[2])) for hit in found if hit]
    if len(named) < len(given) or max(number for _, number in named) >= CHANNELS:
        return given  # four digits may be a year
    if len({name for name, _ in named}) > 1 or sorted(number for _, number in named) != list(range(len(given))):
        raise FormatError(
            f"the {len(given)} files are not the channels of one image: their numbers are not those from 0000 on, "
            "or the names before them differ",
            hint="send the channels of one image, or each image alone",
        )
    return [upload for _, upload in sorted(zip(named, given, strict=True), key=lambda pair: pair[0])]


def _move_all(given: Sequence[Upload], target: Path, suffix: str, prefix: str = "") -> Path:
    target.mkdir(mode=PRIVATE)
    for number, upload in enumerate(given):
        upload.path.rename(target / f"{prefix}{number:04d}{suffix}")
    return target


def _shown_name(given: Sequence[Upload]) -> str:
    """What people call an upload: the folder from which all of its files came, else the first file."""
    parts = [upload.name.replace("\\", "/").strip("/").split("/") for upload in given]
    folders = {part[0] for part in parts if len(part) > 1}
    from_one = len(given) > 1 and len(folders) == 1 and all(len(part) > 1 for part in parts)
    return folders.pop() if from_one else parts[0][-1]


def _rename(upload: Upload, name: str) -> Path:
    return upload.path.rename(upload.path.with_name(name))


def _sync(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk."""
    if path.is_dir():
        for part in path.iterdir() if path.name in ("dicom", "channels") else ():
            _sync(part)
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_ours(value: object) -> bool:
    """Whether this is an id that a server made: anything else may name a patient."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value) is not None
