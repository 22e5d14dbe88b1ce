"""Recognising DICOM files, which are reported but not read."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

__all__ = ["CONVERT", "is_dicom", "series_in"]

CONVERT = "convert each series to NIfTI, for example with `dcm2niix -z y -o OUT FOLDER`, and use the result"
PREAMBLE = 128


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM prefix after its preamble, whatever its name."""
    try:
        with path.open("rb") as stream:
            stream.seek(PREAMBLE)
            return stream.read(4) == b"DICM"
    except OSError:
        return False


def series_in(folder: Path) -> int:
    """Number of files in a folder that holds a DICOM series; 0 when its first files are not DICOM."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return len(files) if any(is_dicom(file) for file in islice(files, 3)) else 0
