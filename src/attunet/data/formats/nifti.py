"""NIfTI-1 and NIfTI-2, plain or gzipped."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from isal import igzip, igzip_lib, igzip_threaded
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from nibabel.spatialimages import HeaderDataError, ImageDataError
from nibabel.wrapstruct import WrapStructError

from attunet.data.formats.voxels import to_native, to_storable
from attunet.data.slabs import cores, packed
from attunet.data.volume import Affine, Array, Volume
from attunet.errors import FormatError, first_line
from attunet.files import staged

__all__ = ["read_nifti", "write_nifti"]

GZIP = b"\x1f\x8b"
GZIP_LEVEL = 1  # on masks, higher levels save little and take twice the time
MAX_THREADS = 4  # more would wait for the slices to be copied
MAX_COMPRESSION = 1100  # deflate compresses at most 1032 to 1
SLICES = 64  # copied at once, so that whole cache lines are read
NIFTI1_LONGEST_AXIS = 32767
HINT = "the file may be truncated or not NIfTI: copy or convert it again"
BROKEN: tuple[type[Exception], ...] = (
    ImageFileError,
    HeaderDataError,
    ImageDataError,
    WrapStructError,
    cast(type[Exception], igzip_lib.error),  # its stub declares the class as an instance
    zlib.error,
    OSError,
    EOFError,
    ValueError,
)


def read_nifti(path: Path) -> Volume:
    """Read a volume with the affine of the header (nibabel's rule: sform, then qform, then pixdim).

    Intensities are scaled by slope and intercept to float32; without scaling, integers keep their type. A fourth axis
    (or a fifth, the vector axis) becomes the channels. Uncompressed files are memory-mapped, copy on write; compressed
    ones are decompressed directly into the array.
    Raises: FormatError when the file cannot be read, GeometryError when its affine cannot be inverted.
    """
    try:
        with path.open("rb") as stream:
            compressed = stream.read(len(GZIP)) == GZIP
        header, voxels = _read_gzip(path) if compressed else _map_file(path)
        array = _scaled(_channels_first(voxels, path), header, path)
        affine = header.get_best_affine()
    except BROKEN as error:
        raise FormatError(f"cannot read {path} as NIfTI: {first_line(error)}", hint=HINT) from error
    return Volume(array, affine)


def write_nifti(volume: Volume, path: Path) -> None:
    """Write (I, J, K), or (I, J, K, C) when there are several channels; the affine is stored as float32.

    Threads compress the file while the next slices are copied into the order of the file.
    """
    array = to_storable(volume.array)
    header = _header(array, volume.affine)
    with staged(path) as target, target.open("wb") as stream:
        if path.name.lower().endswith(".gz"):
            threads = min(cores(), MAX_THREADS)
            with igzip_threaded.open(stream, "wb", GZIP_LEVEL, threads=threads) as gzip:
                _write(header, array, gzip)
        else:
            _write(header, array, stream)


def _header(array: Array, affine: Affine) -> Any:
    """A header for channels (C, I, J, K) that are stored without scaling."""
    stored = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    kind = Nifti2Image if max(stored.shape) > NIFTI1_LONGEST_AXIS else Nifti1Image
    image = kind(stored, affine)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    try:
        image.set_qform(affine, code=1, strip_shears=False)
    except HeaderDataError:
        image.set_qform(None, code=0)  # a quaternion cannot hold a sheared grid; the sform does
    image.header.set_data_offset(image.header.single_vox_offset)
    image.header.set_slope_inter(1, 0)
    return image.header


def _write(header: Any, array: Array, stream: BinaryIO) -> None:
    """The header and (C, I, J, K) in the order of NIfTI: the first axis varies fastest, the channels slowest."""
    stream.write(header.binaryblock)
    stream.write(bytes(header.single_vox_offset - len(header.binaryblock)))  # no extensions
    for channel in array:
        for start in range(0, channel.shape[2], SLICES):
            stream.write(packed(channel[:, :, start : start + SLICES].T).reshape(-1).view(np.uint8).data)


def _map_file(path: Path) -> tuple[Any, Array]:
    """The header and the memory-mapped voxels of an uncompressed file."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        header = _read_header(stream)
    shape, offset = _checked_shape(header, path), header.get_data_offset()
    if size < offset + _bytes(header):
        raise FormatError(
            f"{path} is truncated: its header declares {offset + _bytes(header)} bytes, it has {size}", hint=HINT
        )
    return header, np.asarray(np.memmap(path, header.get_data_dtype(), "c", offset, shape, order="F"))


def _read_gzip(path: Path) -> tuple[Any, Array]:
    """The header and the voxels of a gzip file, read to its end, where the checksum is."""
    with igzip.open(path, "rb") as stream:
        header = _read_header(stream)
        shape, declared = _checked_shape(header, path), _bytes(header)
        if declared > MAX_COMPRESSION * path.stat().st_size:  # checked before the memory is allocated
            raise FormatError(f"{path} is truncated: its header declares {declared} bytes of voxels", hint=HINT)
        stream.read(header.get_data_offset() - len(header.binaryblock))
        voxels = np.empty(shape, dtype=header.get_data_dtype(), order="F")
        into = voxels.reshape(-1, order="F").view(np.uint8).data
        held = 0
        while held < declared and (count := stream.readinto(into[held:])):
            held += count
        if held < declared:
            raise FormatError(
                f"{path} is truncated: its header declares {declared} bytes of voxels, it has {held}", hint=HINT
            )
        while stream.read(2**20):
            pass
    return header, voxels


def _read_header(stream: BinaryIO) -> Any:
    """Read the header, whose size field is 348 in NIfTI-1 and 540 in NIfTI-2, in either byte order."""
    field = stream.read(4)
    sizes = {int.from_bytes(field, "little"), int.from_bytes(field, "big")}
    kind = Nifti2Header if 540 in sizes else Nifti1Header
    return kind(field + stream.read(kind.template_dtype.itemsize - len(field)))


def _checked_shape(header: Any, path: Path) -> tuple[int, ...]:
    shape: tuple[int, ...] = header.get_data_shape()
    if 0 in shape or not shape:
        raise FormatError(f"{path} contains no voxels: its shape is {shape}", hint=HINT)
    return shape


def _bytes(header: Any) -> int:
    """Size of the voxels, bytes."""
    return int(math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize)


def _scaled(array: Array, header: Any, path: Path) -> Array:
    """Scale voxels (C, I, J, K) by slope and intercept, slice by slice, because this needs float64."""
    slope, intercept = header.get_slope_inter()
    slope, intercept = np.float64(1 if slope is None else slope), np.float64(intercept or 0)
    if slope == 1 and intercept == 0:
        return to_native(array, path)
    to_native(array[:, :1, :1, :1], path)  # raises for complex numbers and colours
    result = np.empty_like(array, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for channel, k in np.ndindex(array.shape[0], array.shape[3]):
            result[channel, :, :, k] = array[channel, :, :, k] * slope + intercept
    return result


def _channels_first(array: Array, path: Path) -> Array:
    spatial = (*array.shape, 1, 1)[:3]
    extra = [size for size in array.shape[3:] if size > 1]
    if len(extra) > 1:
        raise FormatError(
            f"{path} has shape {array.shape}, expected three spatial axes and at most one channel axis",
            hint="split it into one file per time point",
        )
    return np.moveaxis(array.reshape(*spatial, *(extra or [1])), -1, 0)
