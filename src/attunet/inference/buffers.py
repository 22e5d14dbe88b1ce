"""Output buffers for the results of a case; large ones are unnamed temporary files."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.argmax_resample import ClassIndices
from attunet.data.restore import Band, Box, PreprocessingRecord, blank_mask
from attunet.data.slabs import row_chunks
from attunet.data.volume import Array
from attunet.errors import FormatError
from attunet.inference.member import MemberCase, Slab

__all__ = ["LARGE", "OutputBuffers", "Scratch"]

LARGE = 2**28
"""Size in bytes from which an array is kept in a file."""


class Scratch:
    """A float32 array (C, I, J, K) of zeros, in memory or in a file, in the memory layout of NIfTI.

    Args:
        shape: shape of the array.
        folder: folder for the file; None for the system's temporary folder.
        large: size in bytes from which the array is kept in a file.
    Attributes: array, which keeps the file alive.
    Raises: FormatError when there is no space for the file.
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
        """Fill one channel with a value, with few pages in memory at a time."""
        for plane in self.array[channel].T:
            plane[:] = value
            self.release()

    def release(self) -> None:
        """Flush written pages to the file, so that they do not count as memory of this process."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class OutputBuffers:
    """Mask, probabilities and attention of a case on its original grid.

    Args:
        record: the preprocessing record, for the grid.
        plan: the plan, for the labels.
        probabilities: whether to keep probabilities.
        folder: folder for arrays too large for memory; None for the system's temporary folder.
    Attributes: mask (1, I, J, K) of label values; probabilities, None unless requested; attention by gate.
    """

    def __init__(self, record: PreprocessingRecord, plan: Plan, *, probabilities: bool, folder: Path | None) -> None:
        values = tuple(plan.labels.values())
        self.plan = plan
        self._shape, self._folder = record.shape, folder
        self.mask = blank_mask(record, values)
        self._values = np.array(values, self.mask.dtype)
        self.probabilities = Scratch((len(plan.outputs), *record.shape), folder) if probabilities else None
        canonical_shape = tuple(record.shape[axis] for axis in record.axes)
        if self.probabilities is not None and not plan.regions and record.cropped_shape != canonical_shape:
            self.probabilities.fill(0, 1.0)
        self.attention: dict[str, Scratch] = {}

    def write_mask(self, target: Array, part: slice | Box, classes: ClassIndices) -> None:
        """Write class indices as label values.

        Args:
            target: an array of label values.
            part: its rows, or its box, that is written.
            classes: class indices of this part.
        """
        target[part] = self._values.take(classes)

    def write_attention(self, case: MemberCase, slab: Slab, band: Band, rows: slice, most: int) -> None:
        """Write rows of the content of every gate.

        Args:
            case: the case of a member.
            slab: the slab that determines the rows.
            band: band of the slab.
            rows: rows of the content.
            most: largest number of rows whose maps are in memory at once.
        """
        for gate, planes in slab.attention.items():
            name = f"{case.prefix}{gate}"
            if name not in self.attention:
                self.attention[name] = Scratch((len(planes.array), *self._shape), self._folder)
            scratch = self.attention[name]
            target = case.inverse.content(scratch.array, band)
            for chunk in row_chunks(rows, most):
                target[:, chunk] = case.inverse.interpolate(planes, band, chunk)
                scratch.release()


def _mapped(size: int, folder: Path | None) -> mmap.mmap:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size) if hasattr(os, "posix_fallocate") else file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise FormatError(
            f"cannot keep {size / 2**30:.1f} GB of probabilities or attention in {folder or tempfile.gettempdir()}: "
            f"{error.strerror or error}",
            hint="request fewer outputs, or choose another folder",
        ) from error
