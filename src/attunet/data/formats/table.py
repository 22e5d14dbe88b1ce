"""The table of image formats, and what the suffix of a file says about it.

A new format is a module with its reader and, where others could read what it writes, a writer; a row in `FORMATS`; and
tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attunet.data.dataset import Problem
from attunet.data.formats.array import read_array, write_array
from attunet.data.formats.itk import write_itk
from attunet.data.formats.metaimage import check_metaimage, read_metaimage
from attunet.data.formats.nifti import check_nifti, read_nifti, write_nifti
from attunet.data.formats.nrrd import check_nrrd, read_nrrd
from attunet.data.formats.raster import (
    check_picture,
    check_picture_label,
    read_picture,
    read_picture_alpha,
    read_picture_label,
    read_picture_palette,
    write_picture,
)
from attunet.data.formats.tiff import (
    check_tiff,
    check_tiff_label,
    read_tiff,
    read_tiff_alpha,
    read_tiff_label,
    read_tiff_palette,
    write_tiff,
)
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
        read_alpha: reads an image with what the file calls alpha as its last channel; None where there is no alpha.
        read_palette: the colours of the indexes in a mask with a palette; None where there are no palettes.
        check_header: what the reader of a file converts, chooses or leaves out, as warnings without a case; raises
            what `read` raises. None where a header has nothing to interpret.
        check_label: as `check_header`, for a mask, where that differs; None where it does not.
        read_part: reads the array of a key, at a time (frame), from a file that may hold several; both may be None.
            None for formats of one array, whose fourth axis holds channels or frames.
        folder: whether an image is a folder.
        beside: endings of files of the same name that belong to the image, and are no images of their own.
        holds: what an image may consist of, in a few words.
        geometry: whether files can keep spacing, and most of them orientation and position; without a spacing voxels
            count as 1 mm.
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
    read_alpha: Callable[[Path], Volume] | None = None
    read_palette: Callable[[Path], dict[int, tuple[int, ...]]] | None = None
    check_header: Callable[[Path], Iterable[Problem]] | None = None
    check_label: Callable[[Path], Iterable[Problem]] | None = None
    read_part: Callable[[Path, str | None, int | None], Volume] | None = None
    folder: bool = False
    beside: tuple[str, ...] = ()
    holds: str
    geometry: bool = False
    lossless: bool = True
    masks: str | None = None
    float_suffixes: tuple[str, ...] = ()


def _picture(name: str, suffixes: tuple[str, ...], holds: str, **fields: Any) -> ImageFormat:
    """A format that Pillow decodes."""
    return ImageFormat(
        name=name,
        suffixes=suffixes,
        holds=holds,
        read=read_picture,
        read_label=read_picture_label,
        read_alpha=read_picture_alpha,
        read_palette=read_picture_palette,
        check_header=check_picture,
        check_label=check_picture_label,
        **fields,
    )


_OME = ".ome"
_ANY = "2-D or 3-D, any number of channels"
_EIGHT_BITS = "2-D, 8 bits in colour or grey"
_JPEG2000 = "2-D, up to 16 bits in grey, 8 in colour (16 with `attunet[codecs]`)"
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
    _picture("PNG", (".png",), "2-D, 8 or 16 bits in colour or grey", write=write_picture),
    _picture("JPEG", (".jpg", ".jpeg"), _EIGHT_BITS, write=write_picture, lossless=False, masks=".png"),
    _picture("BMP", (".bmp",), _EIGHT_BITS, write=write_picture),
    _picture("GIF", (".gif",), "2-D, one picture of up to 256 colours or greys", masks=".png"),
    _picture("WebP", (".webp",), "2-D, one picture, 8 bits in colour", masks=".png"),
    _picture("JPEG 2000", (".jp2", ".j2k", ".jpx"), _JPEG2000, masks=".png"),
    ImageFormat(
        name="TIFF",
        suffixes=(".ome.tif", ".ome.tiff", ".tif", ".tiff"),
        read=read_tiff,
        write=write_tiff,
        read_label=read_tiff_label,
        read_alpha=read_tiff_alpha,
        read_palette=read_tiff_palette,
        check_header=check_tiff,
        check_label=check_tiff_label,
        holds=_ANY,
        geometry=True,
    ),
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
    """The file name without its known suffix, and without the .ome of a file made from an OME file."""
    suffix = suffix_of(path)
    stem = path.name[: -len(suffix)] if suffix else path.stem
    return stem[: -len(_OME)] if stem.lower().endswith(_OME) and len(stem) > len(_OME) else stem


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
