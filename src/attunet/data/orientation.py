"""Orientation of a volume: canonical axes, the box of its content, and the inverse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from attunet.data.slabs import cores, each_slab
from attunet.data.volume import Affine, Array, Volume, axis_order

__all__ = [
    "PLANES",
    "Flips",
    "Plane",
    "Triple",
    "bounding_box",
    "canonical",
    "content_box",
    "oriented",
    "reorientation",
    "slice_plane",
    "tilt_degrees",
]

Triple = tuple[int, int, int]
Flips = tuple[bool, bool, bool]
Mask = npt.NDArray[np.bool_]
Marks = Callable[[Array], Mask]
Plane = Literal["sagittal", "coronal", "axial"]
PLANES: tuple[Plane, Plane, Plane] = ("sagittal", "coronal", "axial")
"""The plane of slices across each canonical axis."""

ANISOTROPIC = 2.0
"""Factor between voxel sizes from which the slices of an image have a direction."""


def canonical(volume: Volume, slice_axis: int = 2) -> tuple[Volume, Triple, Flips]:
    """The volume with axes running right, front and up, then `slice_axis` (0, 1, 2) moved last; a view.

    Returns: the volume, the original axis of each new axis, and which of them were flipped.
    """
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    closest = axis_order(directions)
    x, y, z = sorted(range(3), key=lambda world: world == slice_axis)
    axes = i, j, k = closest.index(x), closest.index(y), closest.index(z)
    flips = bool(directions[x, i] < 0), bool(directions[y, j] < 0), bool(directions[z, k] < 0)
    affine = volume.affine @ reorientation(axes, flips, volume.spatial_shape)
    return Volume(oriented(volume.array, axes, flips), affine), axes, flips


def content_box(array: Array, *, crop: bool, floors: Sequence[float] | None = None) -> tuple[Triple, Triple]:
    """Start and shape of the box in which any channel is above its minimum; the whole grid when none is.

    Args:
        array: an image (C, I, J, K).
        crop: whether to look for the box; False returns the whole grid.
        floors: by channel, the value up to which a voxel counts as background; None for the channel's minimum.
    Returns: first voxel and shape of the box.
    """
    i, j, k = array.shape[1:]
    if not crop:
        return (0, 0, 0), (i, j, k)
    shown = [np.zeros(size, np.bool_) for size in (i, j, k)]
    for channel, floor in zip(array, floors or [-np.inf] * len(array), strict=True):
        _mark(channel, partial(_above, max(channel.min(), floor)), shown)
    box = _box_around(shown)
    if box is None:
        return (0, 0, 0), (i, j, k)
    (i, i_end), (j, j_end), (k, k_end) = ((side.start, side.stop) for side in box)
    return (i, j, k), (i_end - i, j_end - j, k_end - k)


def bounding_box(array: Array, marks: Marks = np.asarray) -> tuple[slice, ...] | None:
    """The smallest box with all marked voxels.

    Args:
        array: of two dimensions or more.
        marks: of a plane of it, which voxels are marked; the array is a mask if left out.
    Returns: its slices; None when no voxel is marked.
    """
    shown = [np.zeros(size, np.bool_) for size in array.shape]
    _mark(array, marks, shown)
    return _box_around(shown)


def _above(floor: float, plane: Array) -> Mask:
    return np.asarray(plane > floor)


def _box_around(shown: Sequence[Mask]) -> tuple[slice, ...] | None:
    """The box around the marked planes of each axis; None when there are none."""
    lines = [np.flatnonzero(line) for line in shown]
    if not len(lines[0]):
        return None
    return tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines)


def _mark(array: Array, marks: Marks, shown: Sequence[Mask]) -> None:
    """Mark the planes of each axis that have a marked voxel; the array is read once, as it lies in memory."""
    axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    planes, *others = (shown[axis] for axis in axes)
    across = [tuple(other for other in range(len(others)) if other != axis) for axis in range(len(others))]
    upright = array.transpose(axes)

    def work(slab: slice) -> None:
        for index in range(slab.start, slab.stop):
            marked = marks(upright[index])
            if marked.any():
                planes[index] = True
                for lines, every in zip(others, across, strict=True):
                    lines[marked.any(axis=every)] = True

    each_slab(work, len(upright), max(1, -(-len(upright) // cores())))


def oriented(array: Array, axes: Triple, flips: Flips) -> Array:
    """A view in model axes; writing to the view writes to the original, which is the undo.

    Args:
        array: (C, I, J, K).
        axes: the original axis of each model axis.
        flips: whether each model axis runs against its original axis.
    Returns: the view.
    """
    steps = [slice(None, None, -1) if flip else slice(None) for flip in flips]
    return array.transpose(0, *(axis + 1 for axis in axes))[:, *steps]


def reorientation(axes: Triple, flips: Flips, shape: Triple) -> Affine:
    """The affine from voxel indices in model axes to original voxel indices.

    Args:
        axes: the original axis of each model axis.
        flips: whether each model axis runs against its original axis.
        shape: of the original grid.
    Returns: an affine, 4x4.
    """
    matrix: npt.NDArray[Any] = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for column, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        matrix[axis, column] = -1.0 if flip else 1.0
        matrix[axis, 3] = shape[axis] - 1 if flip else 0.0
    return matrix


def slice_plane(spacing: Sequence[float]) -> Plane | None:
    """The plane of the slices, from voxel sizes along canonical axes; None where voxels are about as long as wide."""
    _, middle, longest = sorted(spacing)
    return PLANES[spacing.index(longest)] if longest >= ANISOTROPIC * middle else None


def tilt_degrees(affine: Affine) -> float:
    """The largest angle between an axis of a volume on canonical axes and the patient's axis."""
    directions = np.diag(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.abs(directions).min(), 0.0, 1.0))))
