"""Small valid images of DICOM in every encoding, made like those of the tests."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attunet.data.formats.dicom import find_series, read_series

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "generators"))
from dicom_series import encode, make_enhanced, make_picture, make_series, sample, save_series

__all__ = ["archive_seeds", "dicom_images", "read_archive"]

ENCODED = ("implicit", "big endian", "deflated", "RLE", "JPEG-LS", "JPEG lossless", "JPEG 2000", "HTJ2K")


def dicom_images(suffix: str) -> tuple[Callable[[Path], None], ...]:
    """Functions that write a file of one image or several; only for the first suffix all of them."""
    makers: list[Callable[[Path], None]] = [_saved(_slice)]
    if suffix == ".dcm":
        makers += [_saved(lambda syntax=syntax: encode(_slice(), syntax)) for syntax in ENCODED]
        makers += [
            _saved(lambda: encode(make_enhanced(sample((6, 5, 3)), order=[2, 0, 1]), "JPEG-LS")),
            _saved(lambda: make_enhanced(sample((6, 5, 3)), modality="MR", slopes=[1, 2, 0.5])),
            _saved(lambda: encode(make_picture(_colours(), modality="US"), "JPEG baseline")),
            _saved(lambda: make_picture(_colours()[..., 0], PhotometricInterpretation="MONOCHROME1")),
        ]
    return tuple(makers)


def archive_seeds(folder: Path) -> Iterator[None]:
    """An archive of a series of three files."""
    files = save_series(make_series(sample((6, 5, 3))), folder / "series")
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files.iterdir()):
            archive.write(file, file.name)
    yield


def read_archive(path: Path) -> object:
    """Read every series of an archive."""
    return [read_series(series) for series in find_series(path).series]


def _slice() -> Any:
    (ds,) = make_series(sample((12, 10, 1), low=0, high=4096), intercept=-1024, BitsStored=12, HighBit=11)
    return ds


def _colours() -> np.ndarray:
    return sample((2, 12, 10, 3), low=0, high=256).astype(np.uint8)


def _saved(make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda path: make().save_as(path, enforce_file_format=True)
