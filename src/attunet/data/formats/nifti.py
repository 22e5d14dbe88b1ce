"""NIfTI-1 and NIfTI-2, plain or gzipped."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal import igzip, igzip_threaded
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from nibabel.spatialimages import HeaderDataError

from attunet.data.dataset import Problem
from attunet.data.formats.limits import MAX_DEFLATE_RATIO, check_size, fill
from attunet.data.formats.series import Series, header_series
from attunet.data.formats.text_headers import unit_warning
from attunet.data.formats.voxels import to_native, to_storable
from attunet.data.geometry import MM_PER_UNIT, TOLERANCE, shear_degrees
from attunet.data.slabs import cores, packed
from attunet.data.volume import Affine, Array, Volume
from attunet.documents import open_regular
from attunet.errors import FormatError
from attunet.files import staged

__all__ = ["check_nifti", "nifti_series", "nifti_voxels", "read_nifti", "write_nifti"]

GZIP = b"\x1f\x8b"
GZIP_LEVEL = 1  # on masks, higher levels save little and take twice the time
MAX_THREADS = 4  # more would wait for the slices to be copied
SLICES = 64  # copied at once, so that whole cache lines are read
NIFTI1_LONGEST_AXIS = 32767
_SILENT = logging.getLogger(f"{__name__}.silent")
_SILENT.disabled = True
HINT = "the file may be truncated or not NIfTI: copy or convert it again"
UNITS = {0: "unknown", 1: "m", 2: "mm", 3: "µm"}
NAMES = {"m": "meter", "mm": "mm", "µm": "micron"}  # as nibabel calls them


def read_nifti(path: Path) -> Volume:
    """Read a volume with the affine of the header (nibabel's rule: sform, then qform, then pixdim), in mm.

    Intensities are scaled by slope and intercept to float32; without scaling, integers keep their type. A fourth axis
    (or a fifth, the vector axis) becomes the channels. Files are read, or decompressed, directly into the array.
    Raises: FormatError when the header cannot be right, GeometryError when its affine cannot be inverted; whatever
        nibabel and isal raise on damaged bytes.
    """
    with open_regular(path) as stream:
        compressed = _compressed(stream)
    header, voxels = _read_gzip(path) if compressed else _read_plain(path)
    array = _scaled(_channels_first(voxels, path), header, path)
    return Volume(array, _affine(header), unit if (unit := _unit(header)) in MM_PER_UNIT else "mm")


def check_nifti(path: Path) -> Iterator[Problem]:
    """Warnings about units that are converted, and about affines in one header that differ. Raises: as `read_nifti`."""
    header = _header_of(path)
    used, unit = _affine(header), _unit(header)
    qform = header.get_qform() if header["qform_code"] > 0 else None
    yield from unit_warning([] if unit == "unknown" else [unit], path)
    name = "sform" if header["sform_code"] > 0 else "qform" if qform is not None else "pixdim"
    if name == "pixdim":
        message = f"{path.name} has neither sform nor qform: its orientation is unknown, its axes are taken as L, A, S"
        yield _header_warning("orientation unknown", message, "nothing if left and right do not matter")
        return
    remedy = f"nothing if the {name}, which is used, is right"
    edges = np.linalg.norm(used[:3, :3], axis=0)
    ends = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in _spatial(header)))])
    other = used if qform is None or shear_degrees(used) else _scaled_affine(qform, _scale(header))
    if (apart := np.linalg.norm(ends @ (used - other)[:3].T, axis=1).max()) > TOLERANCE * edges.min():
        message = f"{path.name}: sform and qform differ by {apart:.3g} mm at a corner"
        yield _header_warning("sform and qform differ", message, remedy)
    elif not np.allclose(sizes := _scale(header) * header["pixdim"][1:4], edges, rtol=0.01):
        sizes, edges = (" x ".join(f"{size:.4g}" for size in numbers) for numbers in (sizes, edges))
        message = f"{path.name}: the voxel size is {sizes} mm by pixdim, {edges} mm by the {name}"
        yield _header_warning("pixdim differs", message, remedy)


def nifti_series(path: Path) -> Series | None:
    """The series in a file whose fourth axis is time. Raises: as `read_nifti`."""
    return header_series(_header_of(path))


def nifti_voxels(path: Path) -> int:
    """The number of voxels of a volume, from its header alone. Raises: as `read_nifti`."""
    return prod(_spatial(_header_of(path)))


def _header_of(path: Path) -> Any:
    with open_regular(path) as file, igzip.open(file, "rb") if _compressed(file) else file as stream:
        return _read_header(stream)


def _header_warning(kind: str, message: str, remedy: str) -> Problem:
    return Problem("", kind, message, f"{remedy}; repair the header if it is not", "warning")


def write_nifti(volume: Volume, path: Path) -> None:
    """Write (I, J, K), or (I, J, K, C) when there are several channels; the affine is stored as float32, in the
    volume's unit, so that the header of a mask is that of its image.

    Threads compress the file while the next slices are copied into the order of the file.
    """
    array = to_storable(volume.array)
    header = _header(array, volume)
    with staged(path) as target, target.open("wb") as stream:
        if path.name.lower().endswith(".gz"):
            threads = min(cores(), MAX_THREADS)
            with igzip_threaded.open(stream, "wb", GZIP_LEVEL, threads=threads) as gzip:
                _write(header, array, gzip)
        else:
            _write(header, array, stream)


def _compressed(stream: BinaryIO) -> bool:
    """Whether a file, which is rewound, begins as gzip does."""
    begin = stream.read(len(GZIP))
    stream.seek(0)
    return begin == GZIP


def _affine(header: Any) -> Affine:
    """The affine that counts (nibabel's rule: sform, then qform, then pixdim), in mm."""
    return _scaled_affine(header.get_best_affine(), _scale(header))


def _scaled_affine(affine: Affine, scale: float) -> Affine:
    scaled = np.array(affine, dtype=np.float64)
    scaled[:3] *= scale
    return scaled


def _unit(header: Any) -> str:
    """The unit of length in the header: a key of `MM_PER_UNIT`, "unknown", or the number of an undefined code."""
    code = int(header["xyzt_units"]) % 8
    return UNITS.get(code, str(code))


def _scale(header: Any) -> float:
    """Millimetres of one unit of the header's affines."""
    return MM_PER_UNIT.get(_unit(header), 1.0)


def _spatial(header: Any) -> tuple[int, ...]:
    return tuple(map(int, (*header.get_data_shape(), 1, 1)[:3]))


def _header(array: Array, volume: Volume) -> Any:
    """A header for channels (C, I, J, K) that are stored without scaling, on the grid of a volume and in its unit."""
    unit, code = (volume.unit, NAMES[volume.unit]) if volume.unit in NAMES else ("mm", "mm")
    affine = _scaled_affine(volume.affine, 1 / MM_PER_UNIT[unit])
    stored = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    kind = Nifti2Image if max(stored.shape) > NIFTI1_LONGEST_AXIS else Nifti1Image
    image = kind(stored, affine)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units(code)
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


def _read_plain(path: Path) -> tuple[Any, Array]:
    """The header and the voxels of an uncompressed file; not mapped, because it may become shorter meanwhile."""
    with open_regular(path) as stream:
        header, size = _read_header(stream), os.fstat(stream.fileno()).st_size
        offset, kind = _voxel_offset(header, path), header.get_data_dtype()
        check_size(path, header.get_data_shape(), kind.itemsize, stored=size - offset)
        voxels = np.empty(header.get_data_shape(), kind, order="F")
        stream.seek(offset)
        fill(voxels, stream, path)
    return header, voxels


def _read_gzip(path: Path) -> tuple[Any, Array]:
    """The header and the voxels of a gzip file, read to its end, where the checksum is."""
    with open_regular(path) as file, igzip.open(file, "rb") as stream:
        header, size = _read_header(stream), os.fstat(file.fileno()).st_size
        kind = header.get_data_dtype()
        check_size(path, header.get_data_shape(), kind.itemsize, stored=size, ratio=MAX_DEFLATE_RATIO)
        offset = _voxel_offset(header, path) - len(header.binaryblock)
        voxels = np.empty(header.get_data_shape(), kind, order="F")
        fill(voxels, stream, path, skip=offset)
    return header, voxels


def _read_header(stream: BinaryIO) -> Any:
    """Read the header, whose size field is 348 in NIfTI-1 and 540 in NIfTI-2, in either byte order."""
    field = stream.read(4)
    sizes = {int.from_bytes(field, "little"), int.from_bytes(field, "big")}
    kind = Nifti2Header if 540 in sizes else Nifti1Header
    header = kind(field + stream.read(kind.template_dtype.itemsize - len(field)), check=False)
    header.check_fix(logger=_SILENT)  # raises what cannot be right; `check_nifti` reports the rest in our words
    return header


def _voxel_offset(header: Any, path: Path) -> int:
    """Where the voxels begin, after the header and its extensions; 0 means directly after the header."""
    offset = float(header["vox_offset"]) or header.single_vox_offset
    if not len(header.binaryblock) <= offset < 2**53:
        raise FormatError(f"{path} declares that its voxels begin at byte {offset:g}", hint=HINT)
    return int(offset)


def _scaled(array: Array, header: Any, path: Path) -> Array:
    """Scale voxels (C, I, J, K) by slope and intercept, slice by slice, because this needs float64."""
    if np.isinf(header["scl_slope"]) or np.isinf(header["scl_inter"]):  # nan means that nothing is scaled
        raise FormatError(f"{path} declares an infinite slope or intercept of its values", hint=HINT)
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
