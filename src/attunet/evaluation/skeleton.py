"""Recall on the skeleton of the reference: whether a thin structure is segmented along its whole length.

A membrane or vessel that is predicted one voxel too narrow has a much lower Dice but is still continuous; one with a
gap has nearly the same Dice but is disconnected. Recall on the skeleton distinguishes the two.
Sources: topology sensitivity, Shit et al. 2021 (clDice), section 3; morphological skeleton, Lantuéjoul 1978.
"""

from __future__ import annotations

from math import nan

import numpy as np
from scipy.ndimage import distance_transform_cdt

from attunet.data.orientation import bounding_box
from attunet.evaluation.overlap import Mask, require_same_shape

__all__ = ["skeleton", "skeleton_recall"]


def skeleton(mask: Mask) -> Mask:
    """The morphological skeleton of a boolean array, the unit ball being a voxel and its face neighbours.

    It is the union over k of what an opening removes from the mask eroded k times. These are the voxels whose
    city-block distance to the outside is no less than at any face neighbour: one distance transform instead of many
    erosions. It is one or two voxels wide, and need not be connected. The border of the image
    is not the outside, so a structure that leaves the image is not thin there.
    """
    distance = distance_transform_cdt(mask, metric="taxicab")
    peaks = mask.copy()
    for axis in range(mask.ndim):
        here, there = _neighbours(mask.ndim, axis)
        rises = distance[there] > distance[here]
        falls = distance[there] < distance[here]
        peaks[here] &= ~rises
        peaks[there] &= ~falls
    return peaks


def skeleton_recall(reference: Mask, prediction: Mask) -> float:
    """Share in [0, 1] of the reference's skeleton that the prediction covers: clDice's topology sensitivity.

    Args: two boolean arrays of one shape.
    Returns: nan when both are empty, 0 when exactly one is.
    Raises: GeometryError when the shapes differ.
    """
    require_same_shape(reference, prediction)
    box = bounding_box(reference)
    if box is None:
        return 0.0 if prediction.any() else nan
    # one more voxel, so that the outside is included if there is one
    wider = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
    middle = skeleton(reference[wider])
    return float(np.count_nonzero(middle & prediction[wider]) / np.count_nonzero(middle))


def _neighbours(dimensions: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The voxels that have a next neighbour along an axis, and these neighbours."""
    whole = (slice(None),) * dimensions
    return (
        (*whole[:axis], slice(None, -1), *whole[axis + 1 :]),
        (*whole[:axis], slice(1, None), *whole[axis + 1 :]),
    )
