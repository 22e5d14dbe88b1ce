"""The table of image formats, and what the suffix of a file says about it.

A new format is a module with its reader and, where others could read what it writes, a writer; a row in `FORMATS`; and
tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from attunet.data.dataset import Problem
from attunet.data.formats.array import read_array, write_array
from attunet.data.formats.itk import write_itk
from attunet.data.formats.metaimage import check_metaimage, read_metaimage
from attunet.data.formats.nifti import check_nifti, read_nifti, write_nifti
from attunet.data.formats.nrrd import check_nrrd, read_nrrd
from attunet.data.formats.raster import read_picture, read_picture_label, read_tiff, write_picture, write_tiff
from attunet.data.volume import Volume
from attunet.errors import FormatError

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "WRITABLE_SUFFIXES",
    "ImageFormat",
    "float_suffix",
    "format_of",
    "is_image",
    "mask_suffix",
    "stem_of",
    "suffix_of",
]


@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """One image format.

    Args:
        name: what the format is called.
        suffixes: file name endings in lower case.
        read: reads a file as a volume; whatever it raises about damaged bytes becomes a FormatError.
        write: writes a volume; raises FormatError when the format cannot hold it. None for formats that are only read.
        read_label: reads a mask, where that differs from `read`; None where it does not.
        check_header: what the reader of a file converts, chooses or leaves out, as warnings without a case; raises
            what `read` raises. None where a header has nothing to interpret.
        read_part: reads the array of a key, at a time (frame), from a file that may hold several; both may be None.
            None for formats of one array, whose fourth axis holds channels or frames.
        folder: whether an image is a folder.
        beside: endings of files of the same name that belong to the image, and are no images of their own.
        holds: what an image may consist of, in a few words.
        geometry: whether files keep spacing, orientation and position; without them voxels count as 1 mm.
        lossless: whether files keep every value, as a mask needs.
        masks: suffix of the masks of such images, where the format is lossy or only read; None for the image's own.
        float_suffixes: endings under which attention and probability maps are written; for the others they are
            written as NIfTI.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Volume]
    write: Callable[[Volume, Path], None] | None = None
    read_label: Callable[[Path], Volume] | None = None
    check_header: Callable[[Path], Iterable[Problem]] | None = None
    read_part: Callable[[Path, str | None, int | None], Volume] | None = None
    folder: bool = False
    beside: tuple[str, ...] = ()
    holds: str
    geometry: bool = False
    lossless: bool = True
    masks: str | None = None
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
        masks=".png",
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
"""Every format; those without a writer are only read."""

SUFFIXES: tuple[str, ...] = tuple(suffix for entry in FORMATS for suffix in entry.suffixes)
"""Every suffix that can be read."""

WRITABLE_SUFFIXES: tuple[str, ...] = tuple(suffix for entry in FORMATS if entry.write for suffix in entry.suffixes)
"""Every suffix that can be written."""


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


def is_image(path: Path) -> bool:
    """Whether a path is there and has the suffix of an image: a file, or a folder where the format is one."""
    suffix = suffix_of(path)
    if suffix is None:
        return False
    return path.is_dir() if format_of(suffix).folder else path.is_file()


def mask_suffix(suffix: str) -> str:
    """The suffix to write the mask of such an image with: its own, unless the format is lossy or only read."""
    return format_of(suffix).masks or suffix


def float_suffix(suffix: str) -> str:
    """The suffix to write the attention and probability maps of such an image with: its own, or .nii.gz."""
    return suffix if suffix in format_of(suffix).float_suffixes else ".nii.gz"
