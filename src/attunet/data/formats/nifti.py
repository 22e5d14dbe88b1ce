"""NIfTI-1 and NIfTI-2, plain or gzipped."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
from isal import igzip, igzip_lib
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from nibabel.nifti2 import Nifti2Image
from nibabel.spatialimages import HeaderDataError, ImageDataError
from nibabel.wrapstruct import WrapStructError

from attunet.data.formats.dtypes import readable, storable
from attunet.data.volume import Array, Volume
from attunet.errors import FormatError
from attunet.files import staged

__all__ = ["read_nifti", "write_nifti"]

GZIP = b"\x1f\x8b"
GZIP_LEVEL = 1  # on masks the higher levels save little and cost twice the time
NIFTI1_LONGEST_AXIS = 32767
HINT = "the file may be truncated or not NIfTI: copy or convert it again"
BROKEN: tuple[type[Exception], ...] = (
    ImageFileError,
    HeaderDataError,
    ImageDataError,
    WrapStructError,
    cast(type[Exception], igzip_lib.error),  # its stub calls the class an instance
    zlib.error,
    OSError,
    EOFError,
    ValueError,
)


def read_nifti(path: Path) -> Volume:
    """A volume with the header's affine (nibabel's rule: sform, then qform, then pixdim).

    Intensities are scaled by slope and intercept, as float32; without scaling, integers stay what they are.
    A fourth axis (or a fifth, the vector axis) becomes the channels.
    Raises: FormatError when the file cannot be read, GeometryError when its affine cannot be inverted.
    """
    try:
        image = _parse(_content(path))
        _check_size(image, path)
        array = readable(np.asanyarray(image.dataobj), path)
    except BROKEN as error:
        raise FormatError(f"cannot read {path} as NIfTI: {_reason(error)}", hint=HINT) from error
    return Volume(_channels_first(array, path), image.affine)


def write_nifti(volume: Volume, path: Path) -> None:
    """Write (I, J, K), or (I, J, K, C) when there are several channels; the affine is kept to float32."""
    array = storable(volume.array)
    stored = array[0] if volume.channels == 1 else np.moveaxis(array, 0, -1)
    kind = Nifti2Image if max(stored.shape) > NIFTI1_LONGEST_AXIS else Nifti1Image
    image = kind(stored, volume.affine)
    image.set_sform(volume.affine, code=1)
    image.header.set_xyzt_units("mm")
    try:
        image.set_qform(volume.affine, code=1, strip_shears=False)
    except HeaderDataError:
        image.set_qform(None, code=0)  # a quaternion cannot hold a sheared grid; the sform does
    with staged(path) as target, target.open("wb") as stream:
        if path.name.lower().endswith(".gz"):
            with igzip.IGzipFile("", "wb", GZIP_LEVEL, fileobj=stream, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)


def _content(path: Path) -> bytes:
    """The bytes of the file, unpacked when they are gzip (by content: names lie)."""
    content = path.read_bytes()
    return igzip.decompress(content) if content.startswith(GZIP) else content


def _parse(content: bytes) -> Any:
    """The image by its header's size field: 348 in NIfTI-1, 540 in NIfTI-2, in either byte order."""
    sizes = {int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big")}
    return (Nifti2Image if 540 in sizes else Nifti1Image).from_bytes(content)


def _check_size(image: Any, path: Path) -> None:
    """Refuse a header that promises more than the file holds, before memory for it is asked for."""
    if 0 in image.shape or not image.shape:
        raise FormatError(f"{path} holds no voxels: its shape is {image.shape}", hint=HINT)
    promised = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    stream = image.file_map["image"].fileobj
    held = stream.seek(0, 2)
    if held < promised:
        raise FormatError(f"{path} is truncated: its header promises {promised} bytes, it holds {held}", hint=HINT)


def _channels_first(array: Array, path: Path) -> Array:
    spatial = (*array.shape, 1, 1)[:3]
    extra = [size for size in array.shape[3:] if size > 1]
    if len(extra) > 1:
        raise FormatError(
            f"{path} has shape {array.shape}, expected three axes and at most one of channels",
            hint="split it into one file per time point",
        )
    return np.moveaxis(array.reshape(*spatial, *(extra or [1])), -1, 0)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
