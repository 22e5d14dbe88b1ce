"""Small valid DICOM objects to begin with, segmentations of every type and a structure set; and reading all in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests" / "generators"))

from dicom_labels import make_segmentation, make_structure_set
from dicom_series import make_series

from attunet.data.formats.dicom import read_label_object, read_named_masks
from attunet.data.volume import Volume

__all__ = ["object_seeds", "read_object"]

SHAPE = (6, 5, 4)
GRID = Volume(np.zeros((1, *SHAPE), np.uint8), np.diag([0.5, 0.75, 2.0, 1.0]))


def object_seeds(folder: Path) -> Iterator[None]:
    """Makes valid objects, one after the other."""
    series = make_series(np.zeros(SHAPE, np.int16), GRID.affine)
    label = np.random.default_rng(0).integers(0, 3, SHAPE)
    masks = [("liver", label == 1), ("spleen", label == 2)]
    made = [make_segmentation(series, masks, kind) for kind in ("BINARY", "FRACTIONAL", "LABELMAP")]
    for dataset in (*made, make_structure_set(series, masks)):
        dataset.save_as(folder / "label.dcm", enforce_file_format=True)
        yield


def read_object(path: Path) -> None:
    """Read every mask of an object, on the grid of its series and, where that is possible, on its own."""
    held = read_label_object(path)
    for _ in read_named_masks(path, held.names, GRID):
        pass
    if not held.contours:
        list(read_named_masks(path, held.names[:1]))
