"""Views of volumes: the slices to show, their orientation, and the grey window."""

from __future__ import annotations

from typing import NamedTuple

import nibabel as nib
import numpy as np

from attunet.data.volume import Array, Spacing, Volume

__all__ = [
    "PICTURE",
    "PLANES",
    "Plane",
    "best_slice",
    "canonicalise",
    "cut",
    "focus",
    "is_raster",
    "planes_of",
    "window",
]

ABDOMEN = (-160.0, 240.0)


class Plane(NamedTuple):
    """A direction of slices.

    Args:
        name: name of the plane.
        axis: axis of a canonical array that is perpendicular to the plane.
        left: letter of the patient's side on the left of the picture.
        top: letter of the patient's side at the top of the picture.
    """

    name: str
    axis: int
    left: str
    top: str

    def extent(self, shape: tuple[int, int, int], spacing: Spacing) -> tuple[float, float]:
        """Width and height in mm of a slice."""
        first, second = (shape[axis] * spacing[axis] for axis in range(3) if axis != self.axis)
        return (second, first) if self == PICTURE else (first, second)

    def aspect(self, spacing: Spacing) -> float:
        """Height of a pixel over its width."""
        width, height = self.extent((1, 1, 1), spacing)
        return height / width


PICTURE = Plane("image", axis=2, left="", top="")
"""A photograph or microscope image: the first axis runs down the rows."""

PLANES = (
    Plane("axial", axis=2, left="R", top="A"),
    Plane("coronal", axis=1, left="R", top="S"),
    Plane("sagittal", axis=0, left="A", top="S"),
)
"""The radiologist's views of an R, A, S array: from the feet, from the front, and from the patient's left."""


def is_raster(volume: Volume) -> bool:
    """Whether this is a picture: one slice, and an affine with a spacing but no patient orientation."""
    if volume.spatial_shape[2] != 1:
        return False
    return bool(np.allclose(volume.affine, np.diag([*volume.spacing, 1.0])))


def canonicalise(volume: Volume) -> Volume:
    """The same volume with its axes flipped and swapped to R, A, S; a picture stays as it is."""
    if is_raster(volume):
        return volume
    orientation = nib.orientations.io_orientation(volume.affine)
    channels_last = nib.orientations.apply_orientation(np.moveaxis(volume.array, 0, -1), orientation)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(orientation, volume.spatial_shape)
    return Volume(np.moveaxis(channels_last, -1, 0), affine)


def planes_of(volume: Volume) -> tuple[Plane, ...]:
    """The planes of a volume to show, as it is stored: one for a picture or a single slice, else three."""
    if is_raster(volume):
        return (PICTURE,)
    shape = canonicalise(volume).spatial_shape
    flat = tuple(plane for plane in PLANES if shape[plane.axis] == 1)
    return flat[:1] or PLANES


def cut(array: Array, plane: Plane, index: int) -> Array:
    """Cut a slice from a canonical array.

    Anterior or superior is up; the patient's right is at the left, as in radiology.

    Args:
        array: (I, J, K).
        plane: direction of the slice.
        index: index of the slice along the plane's axis.
    Returns: (rows, columns), the first row on top.
    """
    flat: Array = np.take(array, index, axis=plane.axis)
    return flat if plane == PICTURE else flat[::-1, ::-1].T


def best_slice(mask: Array, axis: int, among: Array | None = None) -> int:
    """Choose the slice that shows most of a mask; the middle one when the mask is empty.

    Each label counts relative to its own largest area, so that large organs do not hide small ones.

    Args:
        mask: (I, J, K), integers or booleans.
        axis: axis perpendicular to the slices.
        among: which slices to choose from (booleans); None for all.
    Returns: index of the slice.
    """
    areas = _areas(mask, axis)
    total = (areas / np.maximum(areas.max(axis=0), 1)).sum(axis=1)
    if not total.any():
        return int(mask.shape[axis]) // 2
    return int(np.argmax(total if among is None else np.where(among, total, -1)))


def focus(mask: Array) -> tuple[int, int, int]:
    """The point of a mask (I, J, K) through which all three planes pass; the middle when the mask is empty.

    The axial plane is the one that shows most of the mask; the sagittal plane is the best of those that meet the mask
    in the axial plane, the coronal plane the best of those that meet it in both, so that the three planes intersect
    inside the mask.
    """
    k = best_slice(mask, 2)
    axial: Array = mask[:, :, k] != 0
    i = best_slice(mask, 0, np.any(axial, axis=1))
    return i, best_slice(mask, 1, axial[i]), k


def _areas(mask: Array, axis: int) -> Array:
    """(slices, labels): voxels of each value except 0 in every slice across an axis, in one pass over the mask."""
    low, high = int(mask.min()), int(mask.max())
    slices = np.moveaxis(mask, axis, 0)
    counts = [np.bincount(flat.ravel().astype(np.intp) - low, minlength=high - low + 1) for flat in slices]
    return np.delete(np.stack(counts), -low, axis=1) if low <= 0 <= high else np.stack(counts)


def window(array: Array, modality: str = "other") -> tuple[float, float]:
    """Darkest and brightest intensity to show.

    CT gets the abdominal soft-tissue window (HU); any other modality the 1st to 99th percentile of the voxels that are
    brighter than the darkest value.
    """
    if modality == "ct":
        return ABDOMEN
    finite = array[np.isfinite(array)]
    body = finite[finite > finite.min()] if finite.size else finite
    if not body.size:
        return (0.0, 1.0)
    low, high = (float(bound) for bound in np.percentile(body, (1, 99)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)
