"""Voxel-counting metrics of two boolean masks, with one rule for empty masks.

Both masks empty: nan, because nothing was there and nothing was predicted; such a case is counted, not averaged.
Exactly one empty: the worst value, 0 for Dice, IoU, precision and recall; the relative volume error is then +1 (empty
reference) or -1 (empty prediction).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.data.geometry import Voxel, voxel_ml
from attunet.errors import GeometryError

__all__ = ["Counts", "Mask", "VolumeError", "count", "dice", "iou", "precision", "recall", "volume_error"]

Mask = npt.NDArray[np.bool_]


class VolumeError(NamedTuple):
    """Predicted minus reference volume: in millilitres, and as a share of the reference volume."""

    ml: float
    relative: float


@dataclass(frozen=True)
class Counts:
    """Numbers of true and false positive and negative voxels.

    Args:
        tp: true positive voxels.
        fp: false positive voxels.
        fn: false negative voxels.
        tn: true negative voxels.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n_ref(self) -> int:
        """Voxels of the reference mask."""
        return self.tp + self.fn

    @property
    def n_pred(self) -> int:
        """Voxels of the predicted mask."""
        return self.tp + self.fp

    @property
    def both_empty(self) -> bool:
        """Whether both masks are empty."""
        return self.n_ref == 0 and self.n_pred == 0

    @property
    def one_empty(self) -> bool:
        """Whether exactly one mask is empty."""
        return (self.n_ref == 0) != (self.n_pred == 0)

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return self._share(2 * self.tp, self.n_ref + self.n_pred)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), the Jaccard index."""
        return self._share(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return self._share(self.tp, self.n_pred)

    @property
    def recall(self) -> float:
        """TP / (TP + FN), the sensitivity."""
        return self._share(self.tp, self.n_ref)

    def volume_error(self, voxel: Voxel) -> VolumeError:
        """Signed volume error for voxels of this size or edges in mm; the rule for empty masks is the module's."""
        if self.both_empty:
            return VolumeError(nan, nan)
        difference = self.n_pred - self.n_ref
        relative = difference / self.n_ref if self.n_ref else 1.0
        return VolumeError(difference * voxel_ml(voxel), relative)

    def _share(self, part: int, whole: int) -> float:
        if self.both_empty:
            return nan
        return part / whole if whole else 0.0


def count(reference: Mask, prediction: Mask) -> Counts:
    """Compare two boolean masks of one shape, voxel by voxel.

    Raises: GeometryError when the shapes differ.
    """
    require_same_shape(reference, prediction)
    tp = int(np.count_nonzero(reference & prediction))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(reference)) - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=int(reference.size) - tp - fp - fn)


def require_same_shape(reference: npt.NDArray[np.generic], prediction: npt.NDArray[np.generic]) -> None:
    """Raise GeometryError unless both arrays have one shape."""
    if reference.shape != prediction.shape:
        raise GeometryError(
            f"prediction has shape {prediction.shape}, expected the reference's {reference.shape}",
            hint="resample the prediction onto the reference's grid",
        )


def dice(reference: Mask, prediction: Mask) -> float:
    """Dice similarity coefficient in [0, 1] of two boolean arrays of one shape (the paper's DSC).

    Returns: nan when both masks are empty, 0 when exactly one is.
    """
    return count(reference, prediction).dice


def iou(reference: Mask, prediction: Mask) -> float:
    """Intersection over union in [0, 1]; nan when both masks are empty, 0 when exactly one is."""
    return count(reference, prediction).iou


def precision(reference: Mask, prediction: Mask) -> float:
    """Share of the predicted voxels that are correct; nan when both masks are empty, 0 when exactly one is."""
    return count(reference, prediction).precision


def recall(reference: Mask, prediction: Mask) -> float:
    """Share of the reference voxels that were found; nan when both masks are empty, 0 when exactly one is."""
    return count(reference, prediction).recall


def volume_error(reference: Mask, prediction: Mask, voxel: Voxel) -> VolumeError:
    """Predicted minus reference volume.

    Args:
        reference: boolean array.
        prediction: boolean array of the same shape.
        voxel: its size in mm, array order, or its edges, see `attunet.data.geometry.Voxel`.
    Returns: (nan, nan) when both masks are empty; the relative error is +1 when only the reference is empty
        and -1 when only the prediction is.
    """
    return count(reference, prediction).volume_error(voxel)
