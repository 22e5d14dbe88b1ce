"""The grid of the objects about a series: that of its slices, or one at right angles that every reader understands.

Source: PS3.3, C.7.6.2.1.1 (position and orientation of a plane).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attunet.data.formats.dicom import DicomSeries
from attunet.data.geometry import LPS_TO_RAS, Affine, shear_degrees

__all__ = ["ObjectGrid", "grid_of"]


@dataclass(frozen=True, eq=False)
class ObjectGrid:
    """The grid of the objects that are written for a source.

    Args:
        affine: 4x4, voxel indices to RAS millimetres; its third axis is at right angles to the others.
        shape: (I, J, K) of its arrays.
        shifts: by how many columns and rows each slice of the source is moved onto it, (K, 2); all zero unless the
            source is sheared.
        placed: whether the images say where they are; otherwise the only plane is that of the only image.
        same: whether its slices are those of the source images, pixel by pixel.
    """

    affine: Affine
    shape: tuple[int, int, int]
    shifts: npt.NDArray[np.int64]
    placed: bool
    same: bool

    @property
    def step(self) -> float:
        """Distance between neighbouring slices in mm."""
        return float(np.linalg.norm(self.affine[:3, 2]))

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Distance between rows, then between columns, in mm, as in the attribute of this name."""
        column, row = np.linalg.norm(self.affine[:3, :2], axis=0)
        return float(row), float(column)

    @property
    def orientation(self) -> tuple[float, ...]:
        """Direction cosines of a row and of a column in the world of DICOM, LPS."""
        directions = (LPS_TO_RAS @ self.affine)[:3, :2]
        return tuple(float(value) for value in (directions / np.linalg.norm(directions, axis=0)).T.ravel())

    def position(self, slice_index: int) -> tuple[float, float, float]:
        """The centre of the first pixel of a slice in LPS mm."""
        x, y, z, _ = LPS_TO_RAS @ self.affine @ (0, 0, slice_index, 1)
        return float(x), float(y), float(z)

    def frames(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array (I, J, K) of the source's grid as frames of this one: (slices, rows, columns)."""
        return self.moved(array.transpose(2, 1, 0))

    def moved(self, planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Slices of the source (slices, rows, columns, …) as frames of this grid, with 0 where no slice is."""
        slices, rows, columns = planes.shape[:3]
        if self.shape == (columns, rows, slices) and not self.shifts.any():
            return planes
        moved = np.zeros((self.shape[2], self.shape[1], self.shape[0], *planes.shape[3:]), planes.dtype)
        for plane, target, (column, row) in zip(planes, moved, self.shifts, strict=True):
            target[row : row + rows, column : column + columns] = plane
        return moved


def grid_of(series: DicomSeries, *, even: bool) -> ObjectGrid:
    """The grid of the volume, or one at right angles that holds all its slices where it is sheared.

    Args:
        series: the source.
        even: whether its images are so close to their slices that both have one place.
    Returns: the grid.
    """
    columns, rows, slices = series.shape
    none = np.zeros((slices, 2), np.int64)
    if not shear_degrees(series.affine):
        return ObjectGrid(series.affine, series.shape, none, placed=True, same=even)
    edges = series.affine[:3, :3]
    normal = np.cross(edges[:, 0], edges[:, 1])
    normal /= np.linalg.norm(normal)
    straight = normal * (normal @ edges[:, 2])
    drift = np.linalg.lstsq(edges[:, :2], edges[:, 2] - straight, rcond=None)[0]  # pixels from slice to slice
    shifts = np.rint(np.arange(slices)[:, None] * drift).astype(np.int64)
    least = shifts.min(axis=0)
    affine = series.affine.copy()
    affine[:3, 2] = straight
    affine[:3, 3] += edges[:, :2] @ least
    more = shifts.max(axis=0) - least
    shape = (columns + int(more[0]), rows + int(more[1]), slices)
    return ObjectGrid(affine, shape, shifts - least, placed=True, same=False)
