"""Pixels of a series, decoded in parallel straight into its volume."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from attunet.data.formats.dicom.headers import StoredSlice
from attunet.data.formats.dicom.series import DicomSeries
from attunet.data.slabs import cores
from attunet.data.volume import Array, Volume

__all__ = ["read_series"]


def read_series(series: DicomSeries) -> Volume:
    """Read the pixels of a series.

    Returns: (1, I, J, K), i along the columns of an image, j along its rows, k along the normal.
    Raises: FormatError when a file cannot be decoded.
    """
    columns, rows, slices = series.shape
    stack = np.empty((slices, rows, columns), np.float32)

    def fill(index: int) -> None:
        stack[index] = _decoded(series.slices[index])

    with ThreadPoolExecutor(min(cores(), slices)) as pool:
        for _ in pool.map(fill, range(slices)):
            pass
    return Volume(stack.T[None], series.affine)


def _decoded(one: StoredSlice) -> Array:
    import SimpleITK as sitk  # noqa: N813

    decoded: Array = sitk.GetArrayFromImage(sitk.ReadImage(str(one.path)))
    image: Array = decoded[one.frame]
    return image
