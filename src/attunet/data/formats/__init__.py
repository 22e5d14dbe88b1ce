"""Image files in and out: the table of formats, and reading and writing by a file's suffix.

A new format is a module with its reader and writer, a row in `FORMATS`, and tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from attunet.data.dataset import Problem
from attunet.data.formats.array import read_array, write_array
from attunet.data.formats.dicom import CONVERT, is_dicom, series_in
from attunet.data.formats.itk import write_itk
from attunet.data.formats.metaimage import check_metaimage, read_metaimage
from attunet.data.formats.nifti import check_nifti, read_nifti, write_nifti
from attunet.data.formats.nrrd import check_nrrd, read_nrrd
from attunet.data.formats.raster import read_picture, read_picture_label, read_tiff, write_picture, write_tiff
from attunet.data.formats.voxels import to_image, to_label
from attunet.data.volume import Volume
from attunet.errors import AttunetError, FormatError, first_line

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "ImageFormat",
    "check_header",
    "float_suffix",
    "format_of",
    "mask_suffix",
    "read_label",
    "read_volume",
    "stem_of",
    "suffix_of",
    "write_volume",
]


@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """One image format.

    Args:
        name: what the format is called.
        suffixes: file name endings in lower case.
        read: reads a file as a volume; whatever it raises about damaged bytes becomes a FormatError.
        write: writes a volume; raises FormatError when the format cannot hold it.
        read_label: reads a mask, where that differs from `read`; None where it does not.
        check_header: what the reader of a file converts, chooses or leaves out, as warnings without a case; raises
            what `read` raises. None where a header has nothing to interpret.
        holds: what an image may consist of, in a few words.
        geometry: whether files keep spacing, orientation and position; without them voxels count as 1 mm.
        lossless: whether files keep every value; masks of images in a lossy format are written as PNG.
        float_suffixes: endings under which attention and probability maps are written; for the others they are
            written as NIfTI.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Volume]
    write: Callable[[Volume, Path], None]
    read_label: Callable[[Path], Volume] | None = None
    check_header: Callable[[Path], Iterable[Problem]] | None = None
    holds: str
    geometry: bool = False
    lossless: bool = True
    float_suffixes: tuple[str, ...] = ()


_ANY = "2-D or 3-D, any number of channels"
FORMATS: tuple[ImageFormat, ...] = (
    ImageFormat(
        name="NIfTI",
        suffixes=(".nii.gz", ".nii"),
        read=read_nifti,
        check_header=check_nifti,
        write=write_nifti,
        holds=_ANY,
        geometry=True,
        float_suffixes=(".nii.gz", ".nii"),
    ),
    ImageFormat(
        name="NRRD",
        suffixes=(".nrrd", ".nhdr"),
        read=read_nrrd,
        check_header=check_nrrd,
        write=write_itk,
        holds=_ANY,
        geometry=True,
        float_suffixes=(".nrrd",),
    ),
    ImageFormat(
        name="MetaImage",
        suffixes=(".mha", ".mhd"),
        read=read_metaimage,
        check_header=check_metaimage,
        write=write_itk,
        holds=_ANY,
        geometry=True,
        float_suffixes=(".mha",),
    ),
    ImageFormat(
        name="PNG",
        suffixes=(".png",),
        read=read_picture,
        write=write_picture,
        read_label=read_picture_label,
        holds="2-D, 8 bits in colour, 8 or 16 bits in grey",
    ),
    ImageFormat(
        name="JPEG",
        suffixes=(".jpg", ".jpeg"),
        read=read_picture,
        write=write_picture,
        read_label=read_picture_label,
        holds="2-D, 8 bits in colour or grey",
        lossless=False,
    ),
    ImageFormat(
        name="BMP",
        suffixes=(".bmp",),
        read=read_picture,
        write=write_picture,
        read_label=read_picture_label,
        holds="2-D, 8 bits in colour or grey",
    ),
    ImageFormat(name="TIFF", suffixes=(".tif", ".tiff"), read=read_tiff, write=write_tiff, holds=_ANY),
    ImageFormat(
        name="NumPy", suffixes=(".npy",), read=read_array, write=write_array, holds=_ANY, float_suffixes=(".npy",)
    ),
)
"""Every format that can be read and written."""

SUFFIXES: tuple[str, ...] = tuple(suffix for entry in FORMATS for suffix in entry.suffixes)
"""Every suffix that can be read and written."""


def suffix_of(path: Path) -> str | None:
    """The suffix of a file name in lower case, such as .nii.gz; None when it is not in `SUFFIXES`."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix) and len(name) > len(suffix)), None)


def format_of(suffix: str) -> ImageFormat:
    """The format of a suffix. Raises: FormatError when the suffix is unknown."""
    for entry in FORMATS:
        if suffix.lower() in entry.suffixes:
            return entry
    raise FormatError(f"{suffix} is not a known suffix", hint=f"use one of {', '.join(SUFFIXES)}")


def stem_of(path: Path) -> str:
    """The file name without its known suffix; the whole stem when the suffix is unknown."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def mask_suffix(suffix: str) -> str:
    """The suffix to write the mask of such an image with: its own, but .png where the format is lossy."""
    return suffix if format_of(suffix).lossless else ".png"


def float_suffix(suffix: str) -> str:
    """The suffix to write the attention and probability maps of such an image with: its own, or .nii.gz."""
    return suffix if suffix in format_of(suffix).float_suffixes else ".nii.gz"


def read_volume(path: Path) -> Volume:
    """Read an image file.

    Raises: FormatError when the file is missing, damaged or of an unknown format, GeometryError when its affine
        cannot be inverted.
    """
    return to_image(_guarded(format_of(_checked_suffix(path)).read, path))


def read_label(path: Path) -> Volume:
    """Read a mask file as a volume of one channel of integers, values as in the file.

    Raises: as `read_volume`, and LabelError when the values are not whole numbers of one channel.
    """
    entry = format_of(_checked_suffix(path))
    return to_label(_guarded(entry.read_label or entry.read, path), path)


def check_header(path: Path) -> tuple[Problem, ...]:
    """Warnings about what the reader of a file converts, chooses or leaves out, such as units; none if unreadable.

    Only the header is read. Inspecting a data set and predicting report them with the case.
    """
    suffix = suffix_of(path)
    check = None if suffix is None else format_of(suffix).check_header
    try:
        return () if check is None else tuple(check(path))
    except Exception:  # decoders raise any error on damaged bytes
        return ()  # reading the file reports them


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume in the format of the path's suffix; the file appears whole or not at all.

    Raises: FormatError when the suffix is unknown, the folder is missing or the format cannot hold the volume.
    """
    suffix = suffix_of(path)
    if suffix is None:
        raise FormatError(f"cannot write {path}: unknown suffix", hint=f"use one of {', '.join(SUFFIXES)}")
    format_of(suffix).write(volume, path)


def _guarded(read: Callable[[Path], Volume], path: Path) -> Volume:
    """Read a file; whatever a decoder raises about damaged bytes is one FormatError."""
    try:
        return read(path)
    except AttunetError:
        raise
    except MemoryError as error:
        raise FormatError(
            f"{path} does not fit into memory", hint="crop or downsample it, or use a machine with more memory"
        ) from error
    except Exception as error:  # decoders raise any error on damaged bytes
        raise FormatError(
            f"cannot read {path} as {format_of(suffix_of(path) or '').name}: {first_line(error)[:300]}",
            hint="the file may be truncated, or of another format than its suffix says: copy or export it again",
        ) from error


def _checked_suffix(path: Path) -> str:
    """The suffix of a file that is there and not empty; each usual mistake has its own message."""
    if path.is_dir():
        dicom = series_in(path) > 0
        kind = "a DICOM series, which is not read yet" if dicom else "a folder"
        raise FormatError(f"{path} is {kind}, expected an image file", hint=CONVERT if dicom else "pass a file in it")
    if not path.is_file():
        raise FormatError(f"there is no file {path}", hint="check the path")
    if path.stat().st_size == 0:
        raise FormatError(f"{path} is empty (0 bytes)", hint="copy the file again")
    suffix = suffix_of(path)
    if suffix is None and is_dicom(path):
        raise FormatError(f"{path} is a DICOM file, which is not read yet", hint=CONVERT)
    if suffix is None:
        raise FormatError(f"{path} has an unknown format", hint=f"expected one of {', '.join(SUFFIXES)}")
    return suffix
