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
from attunet.data.formats.analyze import check_pair, pair_series, read_pair
from attunet.data.formats.arrays import read_array, read_hdf5, read_matlab, read_npz, write_array
from attunet.data.formats.dicom import DICOM_SUFFIXES, check_dicom, read_dicom
from attunet.data.formats.isolation import in_own_process
from attunet.data.formats.itk import write_itk
from attunet.data.formats.metaimage import check_metaimage, read_metaimage
from attunet.data.formats.nifti import check_nifti, nifti_series, read_nifti, write_nifti
from attunet.data.formats.nrrd import check_nrrd, read_nrrd
from attunet.data.formats.ome_zarr import check_ome_zarr, ome_zarr_series, read_ome_zarr
from attunet.data.formats.raster import (
    check_picture,
    check_picture_label,
    read_picture,
    read_picture_alpha,
    read_picture_label,
    read_picture_palette,
    write_picture,
)
from attunet.data.formats.series import Series, WhatToRead
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
    "is_companion",
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
        check_part: as `check_header`, of the array with this key, where that matters; None where it does not.
        read_part: reads one of several arrays or times of a file. None for formats of one array, whose fourth axis
            holds channels or times.
        series: the times of a file whose header speaks for them; None for formats without times.
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
    check_part: Callable[[Path, str | None], Iterable[Problem]] | None = None
    read_part: Callable[[Path, WhatToRead], Volume] | None = None
    series: Callable[[Path], Series | None] | None = None
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


def _container(name: str, suffixes: tuple[str, ...], read: Callable[..., Volume]) -> ImageFormat:
    """A format of several arrays with names, which is only read."""
    holds = "2-D or 3-D, any number of channels; several arrays, chosen by `--key`"
    # damaged files crash or stop the libraries of both
    apart = read if read is read_npz else in_own_process(read)
    extra = "; needs `attunet[hdf5]`" if read is read_hdf5 else "; version 7.3 needs `attunet[hdf5]`"
    holds += "" if read is read_npz else extra
    return ImageFormat(name=name, suffixes=suffixes, holds=holds, read=apart, read_part=apart, masks=".nii.gz")


_READ_OME_ZARR = in_own_process(read_ome_zarr)
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
        series=nifti_series,
        beside=(".mat",),
        write=write_nifti,
        holds=_ANY,
        geometry=True,
        float_suffixes=(".nii.gz", ".nii"),
    ),
    ImageFormat(
        name="NRRD",
        suffixes=(".nrrd", ".nhdr"),
        read=read_nrrd,
        beside=(".raw", ".raw.gz"),
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
        beside=(".raw", ".zraw"),
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
    _picture("Netpbm", (".ppm", ".pgm"), "2-D, 8 or 16 bits in grey, 8 in colour", masks=".png"),
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
    ImageFormat(
        name="NIfTI pair, Analyze 7.5",
        suffixes=(".img.gz", ".img", ".hdr.gz", ".hdr"),
        beside=(".hdr.gz", ".hdr", ".mat"),
        read=read_pair,
        check_header=check_pair,
        series=pair_series,
        holds=_ANY,
        geometry=True,
        masks=".nii.gz",
    ),
    _container("NumPy archive", (".npz",), read_npz),
    _container("MATLAB", (".mat",), read_matlab),
    _container("HDF5", (".h5", ".hdf5"), read_hdf5),
    ImageFormat(
        name="OME-Zarr",
        suffixes=(".ome.zarr", ".zarr"),
        folder=True,
        read=_READ_OME_ZARR,
        read_part=_READ_OME_ZARR,
        check_header=check_ome_zarr,
        series=ome_zarr_series,
        holds="a folder: 2-D or 3-D, any number of channels or times; needs `attunet[zarr]`",
        geometry=True,
        masks=".nii.gz",
    ),
    ImageFormat(
        name="DICOM",
        suffixes=DICOM_SUFFIXES,
        read=read_dicom,
        read_part=read_dicom,
        check_part=check_dicom,
        holds="a file, or the series of a folder or `.zip`, whatever its files are called; needs `attunet[dicom]`",
        geometry=True,
        masks=".nii.gz",
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


def is_companion(path: Path) -> bool:
    """Whether a file belongs to an image of the same name beside it, such as the header of a pair."""
    name = path.name.lower()
    for entry in FORMATS:
        for ending in entry.beside:
            stem = path.name[: -len(ending)]
            others = (suffix for suffix in entry.suffixes if suffix not in entry.beside)
            if name.endswith(ending) and any(path.with_name(f"{stem}{suffix}").is_file() for suffix in others):
                return True
    return False


def mask_suffix(suffix: str) -> str:
    """The suffix to write the mask of such an image with: its own, unless the format is lossy or only read."""
    return format_of(suffix).masks or suffix


def float_suffix(suffix: str) -> str:
    """The suffix to write the attention and probability maps of such an image with: its own, or .nii.gz."""
    return suffix if suffix in format_of(suffix).float_suffixes else ".nii.gz"
