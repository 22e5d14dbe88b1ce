"""Reading a series: its slices are decoded in parallel, straight into the volume."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np

from attunet.data.formats.dicom.compressed import quiet_decoders
from attunet.data.formats.dicom.decoding import decode
from attunet.data.formats.dicom.series import DicomSeries
from attunet.data.formats.dicom.values import padding_mask, rescaled, result_dtypes, used_bits
from attunet.data.formats.limits import check_size
from attunet.data.slabs import cores
from attunet.data.volume import Array, Volume

__all__ = ["read_series"]

MOST_THREADS = 8
IN_MEMORY = "/dev/shm"
RATIO = 2.0**14
"""Compression that no image of more than one value reaches."""


def read_series(series: DicomSeries) -> Volume:
    """Read the pixels of a series, in the memory of the volume and of one slice for each thread.

    Values are rescaled as each file says, to the smallest type of integers that holds them, or to float32 where a slope
    or intercept is no whole number. Padding that is brighter than all of the image becomes its lowest value.
    Returns: (C, I, J, K), i along the columns of an image, j along its rows, k along the normal; C is 1, or 3 for
        colours.
    Raises: FormatError when a file cannot be decoded.
    """
    first, stored = series.slices[0], sum(path.stat().st_size for path in series.files if path.exists())
    shape = (*series.shape, first.channels)
    check_size(first.path, shape, first.layout.allocated // 8, stored=stored, ratio=RATIO)
    with tempfile.TemporaryDirectory(prefix="attunet-dicom-", dir=_memory_folder()) as folder, quiet_decoders():
        for dtype in result_dtypes(series.slices):
            filling = _Filling(series, dtype, Path(folder))
            if filling.run():
                return Volume(filling.stack.transpose(0, 3, 2, 1), series.affine, calibrated=series.spaced)
    raise AssertionError("the last type holds every value")


def _memory_folder() -> str | None:
    """A folder whose files are in memory, for images that SimpleITK decodes; None where there is none."""
    return IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None


class _Filling:
    """A volume that is filled slice by slice.

    Attributes: stack, (C, K, J, I).
    """

    def __init__(self, series: DicomSeries, dtype: np.dtype[Any], folder: Path) -> None:
        columns, rows, count = series.shape
        self._slices, self._folder = series.slices, folder
        self.stack: Array = np.empty((series.slices[0].channels, count, rows, columns), dtype)
        self._padding: dict[int, Array] = {}
        self._ranges: list[tuple[float, float]] = []

    def run(self) -> bool:
        """Fill it; False when the type of the stack cannot hold a value."""
        count = len(self._slices)
        with ThreadPoolExecutor(min(cores(), count, MOST_THREADS)) as pool:
            filled = all(pool.map(self._fill, range(count)))
        if filled:
            self._lower_padding()
        return filled

    def _fill(self, index: int) -> bool:
        one = self._slices[index]
        stored = used_bits(decode(one, self._folder / f"{get_ident()}.dcm"), one)
        values = rescaled(stored, one, self.stack.dtype)
        if values is None:
            return False
        self.stack[:, index] = values if values.ndim == 2 else np.moveaxis(values, -1, 0)
        if one.padding is not None and values.ndim == 2:
            mask = padding_mask(stored, one)
            if not mask.all():
                image = values[~mask]
                self._ranges.append((float(image.min()), float(image.max())))
            if mask.any():
                self._padding[index] = np.packbits(mask)
        return True

    def _lower_padding(self) -> None:
        """Give padding that is brighter than all of the image the lowest value of the image."""
        if not self._padding or not self._ranges:
            return
        low, high = min(low for low, _ in self._ranges), max(high for _, high in self._ranges)
        for index, packed in self._padding.items():
            image = self.stack[0, index]
            mask = np.unpackbits(packed, count=image.size).astype(bool).reshape(image.shape)
            if image[mask].min() > high:
                image[mask] = low
