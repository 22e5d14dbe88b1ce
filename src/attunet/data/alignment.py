"""Compare the grids of two volumes, and put a label onto the grid of its image."""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np
from scipy import ndimage

from attunet.data.geometry import TOLERANCE
from attunet.data.volume import Affine, Volume
from attunet.display import decimals
from attunet.errors import GeometryError

__all__ = [
    "GeometryPolicy",
    "align_label",
    "check_same_grid",
    "common_grid",
    "describe_mismatch",
    "grid_distance",
    "same_grid",
]

GeometryPolicy = Literal["fail", "copy-affine", "resample"]
WHOLE_VOXEL = 1e-3  # a mapping this close to whole voxels is a flip or shift written with rounded numbers


def grid_distance(first: Volume, second: Volume) -> float:
    """Largest distance in mm between the same corner voxels of two grids; inf when their shapes differ.

    A file without a spacing lies on the grid of one that declares nothing else, such as an OME-TIFF file.
    """
    if first.spatial_shape != second.spatial_shape:
        return float("inf")
    if first.calibrated != second.calibrated and _only_spaced(second if first.calibrated is False else first):
        return 0.0
    apart = _corners(first) @ (first.affine - second.affine)[:3].T
    return float(np.linalg.norm(apart, axis=1).max())


def same_grid(first: Volume, second: Volume) -> bool:
    """Whether two volumes lie on one grid: the same corner voxels are closer than a tenth of the smallest voxel edge.

    Edges across a single slice do not count. Headers keep float32 numbers, so that their rounding, which grows with the
    distance from the origin, is allowed, too, up to half an edge.
    """
    return grid_distance(first, second) <= max(_tolerance(first), _tolerance(second))


def _tolerance(volume: Volume) -> float:
    """Largest distance in mm between the same corner voxels that counts as one grid."""
    edges = [step for step, size in zip(volume.spacing, volume.spatial_shape, strict=True) if size > 1]
    edge = min(edges, default=min(volume.spacing))
    farthest = np.abs(_corners(volume) @ volume.affine[:3].T).max()
    return max(TOLERANCE * edge, min(edge / 2, 4 * float(np.finfo(np.float32).eps) * float(farthest)))


def check_same_grid(first: Volume, second: Volume, names: str, *, hint: str) -> None:
    """Make sure that two volumes lie on one grid, see `same_grid`.

    Args:
        first, second: the volumes.
        names: what the two are, for the message, such as "label and image of case liver_0".
        hint: what the user can do about a difference.
    Raises: GeometryError when the grids differ.
    """
    if not same_grid(first, second):
        raise GeometryError(f"{names} are on different grids: {describe_mismatch(first, second)}", hint=hint)


def common_grid(first: Volume, second: Volume) -> Volume | None:
    """The smallest grid that holds the voxels of two grids, where they are parts of one; None otherwise.

    Returns: a volume of zeros that takes no memory.
    """
    mapping = np.linalg.inv(first.affine) @ second.affine
    whole = np.rint(mapping)
    ends = _corners(second) @ whole[:3].T
    turned = np.abs(whole[:3, :3])
    if (turned.sum(axis=0) != 1).any() or (turned.sum(axis=1) != 1).any():
        return None
    if np.abs(_corners(second) @ mapping[:3].T - ends).max() > TOLERANCE:
        return None
    low = np.minimum(ends.min(axis=0), 0)
    high = np.maximum(ends.max(axis=0) + 1, first.spatial_shape)
    shift = np.eye(4)
    shift[:3, 3] = low
    shape = tuple((high - low).astype(int).tolist())
    return Volume(np.broadcast_to(np.uint8(0), (1, *shape)), first.affine @ shift)


def align_label(
    label: Volume,
    image: Volume,
    case: str,
    *,
    geometry: GeometryPolicy = "fail",
) -> Volume:
    """Put a label onto the grid of its image.

    Args:
        label: the label as read from its file.
        image: the image, whose grid the result has.
        case: id of the case, for messages.
        geometry: what to do when the grids differ. fail: raise an error; copy-affine: trust the voxels and take the
            affine of the image, which must have the same shape; resample: trust the affines and take the nearest
            neighbour, exact where one grid is a flip, a rotation by 90 degrees or a whole-voxel shift of the other.
    Returns: the label with the shape and the affine of the image.
    Raises: GeometryError when the policy forbids the alignment, or the label cannot be aligned.
    """
    if same_grid(label, image):
        return Volume(label.array, image.affine)
    mismatch = f"label and image of case {case} are on different grids: {describe_mismatch(label, image)}"
    if geometry == "fail":
        raise GeometryError(mismatch, hint=_remedy(label, image))
    if geometry == "resample":
        return _resampled(label, image, mismatch)
    if label.spatial_shape != image.spatial_shape:
        raise GeometryError(f"{mismatch}; an affine cannot be copied between shapes", hint="use --geometry resample")
    return Volume(label.array, image.affine)


def describe_mismatch(first: Volume, second: Volume) -> str:
    """Describe the difference between two grids: shape, or orientation or spacing and the largest distance."""
    if first.spatial_shape != second.spatial_shape:
        return f"shape {first.spatial_shape} and {second.spatial_shape}"
    distance = grid_distance(first, second)
    apart = f"{decimals(distance, 2)} mm apart at a corner"
    if first.orientation != second.orientation:
        return f"orientation {first.orientation} and {second.orientation}, {apart}"
    if not np.allclose(first.spacing, second.spacing, rtol=1e-3):
        return f"spacing {_numbers(first.spacing)} and {_numbers(second.spacing)} mm, {apart}"
    return apart


def _only_spaced(volume: Volume) -> bool:
    """Whether an affine is a spacing, without position, rotation or flip."""
    return bool((volume.affine == np.diag([*volume.spacing, 1.0])).all())


def _corners(volume: Volume) -> Affine:
    """(8, 4): homogeneous voxel indices of the corner voxels."""
    ends = [(0, size - 1) for size in volume.spatial_shape]
    return np.array([(*corner, 1) for corner in product(*ends)], dtype=np.float64)


def _resampled(label: Volume, image: Volume, mismatch: str) -> Volume:
    mapping = np.linalg.inv(label.affine) @ image.affine
    rounded = np.rint(mapping)
    corners = _corners(image)
    if np.abs(corners @ (mapping - rounded).T).max() < WHOLE_VOXEL:
        mapping = rounded
    array = ndimage.affine_transform(
        label.array[0], mapping[:3, :3], mapping[:3, 3], image.spatial_shape, order=0, mode="grid-constant"
    )
    if label.array.any() and not array.any():
        raise GeometryError(
            f"{mismatch}; no labelled voxel lies inside the image",
            hint="if the voxels belong together nevertheless, use --geometry copy-affine",
        )
    return Volume(array[None], image.affine)


def _remedy(label: Volume, image: Volume) -> str:
    resample = "--geometry resample to place it by its own affine"
    if label.spatial_shape != image.spatial_shape:
        return f"repair the label, or pass {resample}"
    return f"repair the label's header, or pass {resample}, or --geometry copy-affine to trust its voxels"


def _numbers(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
