"""Recognising DICOM files by their first bytes, whatever they are called, without any other package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from attunet.documents import open_regular
from attunet.errors import AttunetError

__all__ = [
    "DICOM_SUFFIXES",
    "HEAD",
    "dicom_files",
    "holds_series",
    "is_archive",
    "is_dicom",
    "is_hidden",
    "looks_like_dicom",
]

DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
"""Usual endings of DICOM files; many have none."""
PREAMBLE = 128
HEAD = PREAMBLE + 4
"""Bytes that tell whether a file is DICOM."""
ARCHIVE = b"PK\x03\x04"


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first `HEAD` bytes of a file are those of DICOM: its prefix, or a data set without one.

    Old archives write a data set without preamble: its first element belongs to group 2 or 8, little endian, and has
    a short length or a value representation in two capital letters.
    """
    if head[PREAMBLE:HEAD] == b"DICM":
        return True
    group, element, rest = head[:2], head[2:4], head[4:8]
    if len(rest) < 4 or group not in (b"\x02\x00", b"\x08\x00") or element[1:] != b"\x00":
        return False
    explicit = rest[:2].isalpha() and rest[:2].isupper()
    return explicit or (rest[1:] == b"\x00\x00\x00" and rest[0] <= 64)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes, whatever its name."""
    try:
        with open_regular(path) as stream:
            return looks_like_dicom(stream.read(HEAD))
    except (OSError, AttunetError):
        return False


def is_archive(path: Path) -> bool:
    """Whether a file is called .zip and is one."""
    if path.suffix.lower() != ".zip":
        return False
    try:
        with open_regular(path) as stream:
            return stream.read(len(ARCHIVE)) == ARCHIVE
    except (OSError, AttunetError):
        return False


def dicom_files(root: Path) -> Iterator[Path]:
    """The regular files that may be DICOM in a folder and all folders in it, folder by folder, in order of name.

    Links to folders are followed once; hidden files and folders are passed over.
    """
    visited: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in visited else sorted(name for name in below if not is_hidden(name))
        if real not in visited:
            yield from (Path(folder, name) for name in sorted(files) if not is_hidden(name))
        visited.add(real)


def holds_series(folder: Path) -> bool:
    """Whether a file in a folder, or in any folder in it, is DICOM."""
    return any(is_dicom(file) for file in dicom_files(folder))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over for its name."""
    return name.startswith(".") or name == "__MACOSX"
