"""Arrays without geometry: NPY, and files that hold several by name, which are only read: NPZ, MATLAB and HDF5."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from attunet.data.formats.limits import MAX_DEFLATE_RATIO, check_size, fill
from attunet.data.formats.series import WHOLE, WhatToRead, pick_frame
from attunet.data.formats.voxels import to_native
from attunet.data.volume import Array, Volume
from attunet.documents import open_regular
from attunet.errors import FormatError
from attunet.files import staged

__all__ = ["read_array", "read_hdf5", "read_matlab", "read_npz", "require_reader", "write_array"]

NPY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
NPY_HINT = "save an array of numbers with numpy.save(path, array)"
NUMBERS = "biuf"
INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
MATLAB_NUMBERS = {"double", "single", "logical", *INTEGERS}
"""MATLAB's classes of numbers; others (cell, struct, function, …) are not read."""
MATLAB_V73 = b"MATLAB 7.3"
INSTALL = {"h5py": "hdf5", "zarr": "zarr"}
"""The extra of each optional reader."""
CHUNK = 2**20


@dataclass(frozen=True)
class Stored:
    """An array in a file, not read yet.

    Args:
        shape: its axes.
        load: reads it.
        last: whether its fourth axis, the channels or times, is the last; otherwise it is the first.
    """

    shape: tuple[int, ...]
    load: Callable[[], Array]
    last: bool = False


def read_array(path: Path) -> Volume:
    """Read an array (I, J), (I, J, K) or (C, I, J, K) of an NPY file as a volume with the identity as affine.

    Pickles are never loaded. The file is not mapped, because it may become shorter meanwhile.
    Raises: FormatError when the file is not an array of two to four axes; whatever numpy raises on damaged bytes.
    """
    with open_regular(path) as stream:
        shape, fortran, kind = _npy_header(stream, path)
        if kind.hasobject:
            raise FormatError(f"{path} contains Python objects, which are never unpickled", hint=NPY_HINT)
        if not 2 <= len(shape) <= 4:
            raise FormatError(
                f"{path} contains shape {shape}, expected an array (I, J), (I, J, K) or (C, I, J, K)",
                hint="save one image per file",
            )
        check_size(path, shape, kind.itemsize, stored=os.fstat(stream.fileno()).st_size - stream.tell())
        array = np.empty(shape, kind, order="F" if fortran else "C")
        fill(array, stream, path)
    return Volume.from_array(to_native(array, path))


def write_array(volume: Volume, path: Path) -> None:
    """Write an NPY file with the fewest axes of (I, J), (I, J, K) and (C, I, J, K); the affine is not stored."""
    array = volume.array
    if volume.channels == 1:
        array = array[0, ..., 0] if volume.spatial_shape[2] == 1 else array[0]
    with staged(path) as target:
        np.save(target, array, allow_pickle=False)


def read_npz(path: Path, part: WhatToRead = WHOLE) -> Volume:
    """Read an array (I, J), (I, J, K) or (C, I, J, K) of an NPZ file; pickles are never loaded.

    Returns: the array with the identity as affine.
    Raises: FormatError when the file is damaged, has no such array, or its header declares more than it can hold.
    """
    with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
        return _volume(dict(_npz_arrays(archive, path)), path, part)


def read_matlab(path: Path, part: WhatToRead = WHOLE) -> Volume:
    """Read a matrix (I, J), (I, J, K) or (I, J, K, C) of a MATLAB file of version 4, 5 or 7.3; nothing is executed.

    Returns: the matrix with the identity as affine, rows first.
    Raises: as `read_npz`; for version 7.3 also without h5py.
    """
    with open_regular(path) as stream:
        version_73 = stream.read(len(MATLAB_V73)) == MATLAB_V73
        if not version_73:
            stream.seek(0)
            return _volume(dict(_matrices(stream, path)), path, part)
    return read_hdf5(path, part)


def read_hdf5(path: Path, part: WhatToRead = WHOLE) -> Volume:
    """Read a data set (I, J), (I, J, K) or (C, I, J, K) of an HDF5 file; links into other files are not followed.

    Returns: the array with the identity as affine. A matrix of MATLAB has its rows first, its fourth axis last.
    Raises: as `read_npz`; also without h5py.
    """
    require_reader("h5py", path)
    import h5py

    with open_regular(path) as stream, h5py.File(stream, "r") as file:
        return _volume(dict(_hdf5_arrays(file, path)), path, part)


def require_reader(package: str, path: Path) -> None:
    """Raises: FormatError that says what to install, when the package that reads a file is missing."""
    if find_spec(package) is None:
        raise FormatError(
            f"{path} needs the package {package}, which is not installed",
            hint=f'install it with: pip install "attunet[{INSTALL[package]}]"',
        )


def _volume(arrays: Mapping[str, Stored], path: Path, part: WhatToRead) -> Volume:
    """The array of a key, or the only one that is no number or vector, as a volume."""
    key = part.key
    listed = ", ".join(f"{name} {stored.shape}" for name, stored in list(arrays.items())[:8])
    if not arrays:
        raise FormatError(
            f"{path} contains no array of numbers with two to four axes", hint="save the image as one such array"
        )
    images = {name: stored for name, stored in arrays.items() if sum(size > 1 for size in stored.shape) > 1}
    if key is None and len(images) == 1:
        arrays = images  # the others are single numbers and vectors, such as a spacing
    if key is None and len(arrays) > 1:
        raise FormatError(
            f"{path} contains {len(arrays)} arrays: {listed}",
            hint=f"choose that of the image with --key, such as --key {next(iter(arrays))}, that of the label with "
            "--label-key",
        )
    name = next(iter(arrays)) if key is None else key.strip("/")
    if name not in arrays:
        raise FormatError(
            f"{path} contains no array {key}, but {listed}", hint="correct --key; the key of the label is --label-key"
        )
    stored = arrays[name]
    array = to_native(stored.load(), path)
    if array.ndim == 4 and stored.last:
        array = np.moveaxis(array, -1, 0)
    shaped = Volume.from_array(array)
    return pick_frame(Volume(shaped.array, shaped.affine, calibrated=False), part, path)


def _fits(shape: tuple[int, ...]) -> bool:
    return 2 <= len(shape) <= 4 and 0 not in shape


def _npz_arrays(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, Stored]]:
    for entry in archive.infolist():
        if not entry.filename.endswith(".npy"):
            continue
        with archive.open(entry) as stream:
            shape, _, dtype = _npy_header(stream, path)
        if _fits(shape) and dtype.kind in NUMBERS:
            load = partial(_load_member, archive, entry, shape, dtype.itemsize, path)
            yield entry.filename.removesuffix(".npy"), Stored(shape, load)


def _npy_header(stream: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first axis varies fastest, and type of an array."""
    version = npy.read_magic(stream)
    if version not in NPY_HEADERS:
        raise FormatError(f"{path} has an array of version {version} of .npy, expected 1 or 2", hint=NPY_HINT)
    shape, fortran, kind = NPY_HEADERS[version](stream)
    return tuple(shape), fortran, kind


def _load_member(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, shape: tuple[int, ...], itemsize: int, path: Path
) -> Array:
    ratio = 1 if entry.compress_type == zipfile.ZIP_STORED else MAX_DEFLATE_RATIO
    check_size(path, shape, itemsize, stored=entry.compress_size, ratio=ratio)
    with archive.open(entry) as stream:
        array: Array = npy.read_array(stream, allow_pickle=False)
        while stream.read(CHUNK):  # to the end, where the checksum is compared
            pass
    return array


def _matrices(stream: Any, path: Path) -> Iterator[tuple[str, Stored]]:
    from scipy import io

    for name, shape, kind in io.whosmat(stream):
        if _fits(shape) and kind in MATLAB_NUMBERS:
            yield name, Stored(tuple(shape), partial(_load_matrix, stream, name, tuple(shape), path), last=True)


def _load_matrix(stream: Any, name: str, shape: tuple[int, ...], path: Path) -> Array:
    from scipy import io

    # values may be stored in a smaller type than that of the matrix, down to a byte, and compressed
    check_size(path, shape, 1, stored=path.stat().st_size, ratio=MAX_DEFLATE_RATIO)
    stream.seek(0)
    return np.asarray(io.loadmat(stream, variable_names=[name])[name])


def _hdf5_arrays(file: Any, path: Path) -> Iterator[tuple[str, Stored]]:
    """The arrays of a file, each once, however many links lead to it."""
    import h5py

    found: list[tuple[str, Any]] = []
    file.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    for name, item in found:
        if _fits(item.shape or ()) and item.dtype.kind in NUMBERS and not name.startswith("#refs#"):
            matrix = "MATLAB_class" in item.attrs  # stored with its axes in reverse order
            shape = item.shape[::-1] if matrix else item.shape
            yield name, Stored(shape, partial(_load_dataset, item, matrix, path), last=matrix)


def _load_dataset(item: Any, matrix: bool, path: Path) -> Array:
    if item.external or item.is_virtual:
        raise FormatError(
            f"{item.name} of {path} keeps its values in other files, which are not read",
            hint="copy it into one file, for example with h5repack",
        )
    ratio = 1 if item.chunks is None else inf  # chunks that were never written hold the fill value and take no room
    check_size(path, item.shape, item.dtype.itemsize, stored=item.id.get_storage_size() or 1, ratio=ratio)
    return np.asarray(item[()].T if matrix else item[()])
