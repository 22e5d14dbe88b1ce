"""Series in a .zip file: its DICOM files are extracted into a private folder, under safe names and within limits."""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zipfile
import zlib
from pathlib import Path
from typing import IO

from attunet.data.formats.dicom.recognise import HEAD, is_hidden, looks_like_dicom
from attunet.data.formats.limits import AGAIN
from attunet.errors import FormatError
from attunet.names import safe_name

__all__ = ["Extracted", "extract"]

MOST_FILES = 200_000
RATIO = 100
"""An archive may hold this many times its size, or `LEAST_LIMIT` bytes: images are compressed to a fifth at best."""
LEAST_LIMIT = 2**28
CHUNK = 2**20
LONGEST_NAME = 200
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
"""What zipfile raises for archives that are damaged, encrypted, or compressed in an unknown way."""


class Extracted:
    """A folder of the user alone that is deleted when it is no longer used, at the latest when the program ends.

    Attributes: folder, its path.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="attunet-dicom-"))
        self._delete = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def extract(archive: Path) -> Extracted:
    """Extract the DICOM files of an archive.

    Names in the archive only shape the names in the folder: each of their parts becomes a safe name, so that none leads
    out of it, and links are written as the files that they are in the archive.
    Raises: FormatError when it cannot be read, is encrypted, or holds more than is plausible or than the disk can take.
    """
    extracted = Extracted()
    room = _Room(archive, extracted.folder)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if _is_wanted(member)]
            if len(members) > MOST_FILES:
                raise FormatError(f"{archive} holds {len(members)} files, more than {MOST_FILES}", hint="extract it")
            for number, member in enumerate(sorted(members, key=lambda member: member.filename)):
                with opened.open(member) as stream:
                    _write_if_dicom(stream, _path_of(member, number, extracted.folder), room)
    except DAMAGED as error:
        reason = "it is encrypted" if isinstance(error, RuntimeError) and "encrypted" in str(error) else "it is damaged"
        raise FormatError(f"cannot read {archive}: {reason} ({type(error).__name__})", hint=AGAIN) from None
    return extracted


class _Room:
    """Bytes that an archive may still take."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive, self._folder = archive, folder
        self.left = max(LEAST_LIMIT, RATIO * archive.stat().st_size)

    def take(self, count: int) -> None:
        """Account for bytes. Raises: FormatError when there is no room for them."""
        self.left -= count
        if self.left < 0:
            raise FormatError(
                f"{self._archive} holds more than {RATIO} times its own size", hint="extract it, and pass the folder"
            )
        if shutil.disk_usage(self._folder).free < count:
            raise FormatError(
                f"there is no room on {self._folder.parent} to extract {self._archive}",
                hint="extract it yourself, and pass the folder",
            )


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    parts = Path(member.filename).parts
    return not member.is_dir() and not any(is_hidden(part) and part != ".." for part in parts)


def _path_of(member: zipfile.ZipInfo, number: int, folder: Path) -> Path:
    """Where a member is written, which no other member has."""
    parts = [part for part in Path(member.filename.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    path = folder.joinpath(*map(safe_name, parts or ["_"]))
    return path if not path.exists() else path.with_name(f"{number}_{path.name}"[-LONGEST_NAME:])


def _write_if_dicom(stream: IO[bytes], path: Path, room: _Room) -> None:
    """Write a file; one that is no DICOM stays empty, so that it can be told that it was there."""
    piece = stream.read(HEAD)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        if not looks_like_dicom(piece):
            return
        while piece:
            room.take(len(piece))
            file.write(piece)
            piece = stream.read(CHUNK)
