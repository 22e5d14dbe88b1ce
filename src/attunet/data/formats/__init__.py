"""Image files in and out: one module per family of formats, chosen by the file's suffix."""

from __future__ import annotations

from pathlib import Path

from attunet.data.formats.array import read_array, write_array
from attunet.data.formats.dicom import CONVERT, is_dicom, series_in
from attunet.data.formats.itk import read_itk, write_itk
from attunet.data.formats.label import as_label
from attunet.data.formats.nifti import read_nifti, write_nifti
from attunet.data.formats.raster import read_raster, read_raster_label, write_raster
from attunet.data.volume import Volume
from attunet.errors import FormatError

__all__ = ["SUFFIXES", "mask_suffix", "read_label", "read_volume", "stem_of", "suffix_of", "write_volume"]

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
RASTER = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LOSSY = (".jpg", ".jpeg")
ARRAY = (".npy",)
SUFFIXES: tuple[str, ...] = (*NIFTI, *ITK, *RASTER, *ARRAY)
"""Every suffix that can be read and written."""

READERS = dict.fromkeys(NIFTI, read_nifti) | dict.fromkeys(ITK, read_itk)
READERS |= dict.fromkeys(RASTER, read_raster) | dict.fromkeys(ARRAY, read_array)
WRITERS = dict.fromkeys(NIFTI, write_nifti) | dict.fromkeys(ITK, write_itk)
WRITERS |= dict.fromkeys(RASTER, write_raster) | dict.fromkeys(ARRAY, write_array)


def suffix_of(path: Path) -> str | None:
    """The suffix of a file name in lower case, such as .nii.gz; None when it is not in `SUFFIXES`."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix) and len(name) > len(suffix)), None)


def stem_of(path: Path) -> str:
    """The file name without its known suffix; the whole stem when the suffix is unknown."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def mask_suffix(suffix: str) -> str:
    """The suffix to write such an image's mask with: its own, but .png where the format is lossy."""
    return ".png" if suffix.lower() in LOSSY else suffix


def read_volume(path: Path) -> Volume:
    """An image file as a volume.

    Raises: FormatError when there is no such file or it cannot be read, GeometryError when its affine is
        unusable.
    """
    return READERS[_checked_suffix(path)](path)


def read_label(path: Path) -> Volume:
    """A mask file as a volume of one channel of integers, values as found in the file.

    Raises: as `read_volume`, and LabelError when the values are not whole numbers of one channel.
    """
    suffix = _checked_suffix(path)
    return as_label(read_raster_label(path) if suffix in RASTER else READERS[suffix](path), path)


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume in the format of the path's suffix; the file appears whole or not at all.

    Raises: FormatError when the suffix is unknown, the folder is missing or the format cannot hold it.
    """
    suffix = suffix_of(path)
    if suffix is None:
        raise FormatError(f"cannot write {path}: unknown suffix", hint=f"use one of {', '.join(SUFFIXES)}")
    WRITERS[suffix](volume, path)


def _checked_suffix(path: Path) -> str:
    """The suffix of a file that is there and not empty; the usual mistakes are told apart."""
    if path.is_dir():
        dicom = series_in(path) > 0
        kind = "a DICOM series, which is not read yet" if dicom else "a folder"
        raise FormatError(f"{path} is {kind}, expected an image file", hint=CONVERT if dicom else "name a file in it")
    if not path.is_file():
        raise FormatError(f"there is no file {path}", hint="check the path")
    if path.stat().st_size == 0:
        raise FormatError(f"{path} is empty (0 bytes)", hint="copy the file again")
    suffix = suffix_of(path)
    if suffix is None and is_dicom(path):
        raise FormatError(f"{path} is a DICOM file, which is not read yet", hint=CONVERT)
    if suffix is None:
        raise FormatError(f"{path} is of an unknown format", hint=f"expected one of {', '.join(SUFFIXES)}")
    return suffix
