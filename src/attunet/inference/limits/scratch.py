"""Arrays that may be larger than memory: beyond a size they live in a file that has no name and leaves no trace."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attunet.errors import FormatError

__all__ = ["Scratch"]

LARGE = 2**28
"""Bytes from which an array goes into a file."""


class Scratch:
    """Zeros, float32, of shape (C, I, J, K), in memory or in a file, laid out as NIfTI lays them out.

    Args: the shape; a folder for the file; bytes from which there is one.
    Attributes: array, which keeps the file alive.
    Raises: FormatError when there is no room for the file.
    """

    def __init__(self, shape: tuple[int, int, int, int], folder: Path | None = None, *, large: int = LARGE) -> None:
        size = 4 * math.prod(shape)
        channels, i, j, k = shape
        self._map: mmap.mmap | None = None
        if size < large:
            flat = np.zeros(math.prod(shape), np.float32)
        else:
            self._map = _mapped(size, folder)
            flat = np.frombuffer(self._map, np.float32)
        self.array: npt.NDArray[np.float32] = flat.reshape(channels, k, j, i).transpose(0, 3, 2, 1)

    def fill(self, channel: int, value: float) -> None:
        """One channel with one value, of which few pages are held at a time."""
        for plane in self.array[channel].T:
            plane[:] = value
            self.release()

    def release(self) -> None:
        """Let the pages that were written go to the file, so that they do not count as memory of this process."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _mapped(size: int, folder: Path | None) -> mmap.mmap:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size) if hasattr(os, "posix_fallocate") else file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise FormatError(
            f"cannot keep {size / 2**30:.1f} GB of probabilities or attention in {folder or tempfile.gettempdir()}: "
            f"{error.strerror or error}",
            hint="ask for less, or choose another folder",
        ) from error
