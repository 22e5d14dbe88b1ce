"""NumPy arrays in `.npy` files, without geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attunet.data.formats.voxels import to_native
from attunet.data.volume import Volume
from attunet.errors import FormatError
from attunet.files import staged

__all__ = ["read_array", "write_array"]


def read_array(path: Path) -> Volume:
    """Read an array (I, J), (I, J, K) or (C, I, J, K) as a volume with the identity as affine.

    Pickles are never loaded.
    Raises: FormatError when the file is not an array of two to four axes; whatever numpy raises on damaged bytes.
    """
    # mapped, so that a header that lies takes no memory
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    if not isinstance(array, np.ndarray) or not 2 <= array.ndim <= 4:
        got = f"shape {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise FormatError(
            f"{path} contains {got}, expected an array (I, J), (I, J, K) or (C, I, J, K)",
            hint="save one image per file",
        )
    return Volume.from_array(to_native(array, path))


def write_array(volume: Volume, path: Path) -> None:
    """Write an array with the fewest axes of (I, J), (I, J, K) and (C, I, J, K); the affine is not stored."""
    array = volume.array
    if volume.channels == 1:
        array = array[0, ..., 0] if volume.spatial_shape[2] == 1 else array[0]
    with staged(path) as target:
        np.save(target, array, allow_pickle=False)
