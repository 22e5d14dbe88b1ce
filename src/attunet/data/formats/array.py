"""NumPy arrays in `.npy` files, without geometry."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from attunet.data.formats.limits import check_size, fill
from attunet.data.formats.voxels import to_native
from attunet.data.volume import Volume
from attunet.documents import open_regular
from attunet.errors import FormatError
from attunet.files import staged

__all__ = ["read_array", "write_array"]

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
HINT = "save an array of numbers with numpy.save(path, array)"


def read_array(path: Path) -> Volume:
    """Read an array (I, J), (I, J, K) or (C, I, J, K) as a volume with the identity as affine.

    Pickles are never loaded. The file is not mapped, because it may become shorter meanwhile.
    Raises: FormatError when the file is not an array of two to four axes; whatever numpy raises on damaged bytes.
    """
    with open_regular(path) as stream:
        version = npy.read_magic(stream)
        if version not in HEADERS:
            raise FormatError(f"{path} has version {version} of .npy, expected 1 or 2", hint=HINT)
        shape, fortran, kind = HEADERS[version](stream)
        if kind.hasobject:
            raise FormatError(f"{path} contains Python objects, which are never unpickled", hint=HINT)
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
    """Write an array with the fewest axes of (I, J), (I, J, K) and (C, I, J, K); the affine is not stored."""
    array = volume.array
    if volume.channels == 1:
        array = array[0, ..., 0] if volume.spatial_shape[2] == 1 else array[0]
    with staged(path) as target:
        np.save(target, array, allow_pickle=False)
