"""Mosaics of Siemens: all slices of a volume as tiles of one image, whose places only a private header tells."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, isqrt
from typing import TYPE_CHECKING

import numpy as np

from attunet.data.formats.dicom.elements import number_of, texts_of
from attunet.data.formats.dicom.slices import StoredSlice
from attunet.errors import FormatError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["MOSAIC_TAGS", "is_mosaic", "slices_of_mosaic"]

CSA = 0x00291010
"""The private header of an image."""
CREATOR, SIEMENS = 0x00290010, "SIEMENS CSA HEADER"
MOSAIC_TAGS = (CREATOR, CSA)
HINT = "export the series again with its private elements, or convert it with dcm2niix"


def is_mosaic(dataset: Dataset) -> bool:
    """Whether an image is a mosaic of slices."""
    return "MOSAIC" in texts_of(dataset, "ImageType")


def slices_of_mosaic(dataset: Dataset, whole: StoredSlice) -> tuple[StoredSlice, ...]:
    """The tiles of a mosaic as slices.

    The file's position is that of an image of the size of the mosaic, centred on the first slice.

    Args:
        dataset: the file's elements.
        whole: the mosaic as one image.
    Returns: the slices.
    Raises: FormatError when the private header or the distance of slices is missing.
    Source: the mosaic wrapper of nibabel.nicom, and NiPy's notes on Siemens mosaics.
    """
    from nibabel.nicom import csareader

    step = number_of(dataset, "SpacingBetweenSlices")
    if str(dataset[CREATOR].value if CREATOR in dataset else "").strip() != SIEMENS or CSA not in dataset:
        raise FormatError(f"{whole.path.name} is a mosaic without the header of Siemens (CSA)", hint=HINT)
    tags = csareader.read(dataset[CSA].value)["tags"]
    number, normal = tags["NumberOfImagesInMosaic"]["items"], tags["SliceNormalVector"]["items"]
    if not number or len(normal) != 3 or not step or whole.position is None or whole.orientation is None:
        raise FormatError(f"{whole.path.name} is a mosaic that does not say where its slices are", hint=HINT)
    count, size = int(number[0]), _tile_size(whole, int(number[0]))
    across = isqrt(count - 1) + 1
    spacing = np.array(whole.spacing or (1.0, 1.0))
    row, column = np.reshape(whole.orientation, (2, 3))
    lost = (np.array([whole.layout.rows, whole.layout.columns]) - size) / 2 * spacing
    first = np.array(whole.position) + column * lost[0] + row * lost[1]
    return tuple(
        replace(
            whole,
            position=tuple(map(float, first + np.array(normal, float) * step * index)),
            tile=(index // across * size[0], index % across * size[1], *size),
            marks={**whole.marks, "temporal position": (str(whole.instance),)},
        )
        for index in range(count)
    )


def _tile_size(whole: StoredSlice, count: int) -> tuple[int, int]:
    """Rows and columns of a tile of a square mosaic. Raises: FormatError when the image cannot be divided so."""
    across = ceil(count**0.5) if 0 < count < 10**6 else 0
    if across and whole.layout.rows % across == 0 == whole.layout.columns % across:
        return whole.layout.rows // across, whole.layout.columns // across
    raise FormatError(f"{whole.path.name} is a mosaic of {count} slices, which its size does not allow", hint=HINT)
