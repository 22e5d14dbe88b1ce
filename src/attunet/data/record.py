"""What was done to a volume, so that it can be done to its label and undone for its masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attunet.config import Preprocessing
from attunet.data.orientation import Flips, Triple, reorientation
from attunet.data.volume import Affine

__all__ = ["Box", "PreprocessingRecord", "model_affine"]

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class PreprocessingRecord:
    """What was done to a volume, so that it can be done to its label and undone for its masks.

    Args:
        affine, shape: the original grid.
        axes: the original axis that each model axis was taken from.
        flips: whether each model axis runs against its original axis.
        start, cropped_shape: the content box in canonical axes, slice axis last.
        model_shape: (I, J, K) after resampling.
        preprocessing: the settings that were followed.
    """

    affine: Affine
    shape: Triple
    axes: Triple
    flips: Flips
    start: Triple
    cropped_shape: Triple
    model_shape: Triple
    preprocessing: Preprocessing

    @property
    def box(self) -> Box:
        """The content box, as slices of the canonical grid."""
        i, j, k = (slice(low, low + size) for low, size in zip(self.start, self.cropped_shape, strict=True))
        return i, j, k

    @property
    def content(self) -> Box:
        """The same box, as slices of the original grid."""
        parts = [slice(0, 0)] * 3
        for axis, flip, part in zip(self.axes, self.flips, self.box, strict=True):
            size = self.shape[axis]
            parts[axis] = slice(size - part.stop, size - part.start) if flip else part
        i, j, k = parts
        return i, j, k


def model_affine(record: PreprocessingRecord) -> Affine:
    """The affine of the model grid: model voxel indices to RAS+ millimetres."""
    scale = np.divide(record.cropped_shape, record.model_shape)
    resampling = np.diag([*scale, 1.0])
    # Half-pixel centres: the grids share their outer faces, not their first voxel centres.
    resampling[:3, 3] = scale / 2 - 0.5 + record.start
    return np.asarray(record.affine @ reorientation(record.axes, record.flips, record.shape) @ resampling)
