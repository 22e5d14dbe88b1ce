"""`Volume`: an image and its position in the patient, the value that all packages exchange."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from attunet.data.geometry import Affine, Array, Spacing, Voxel, invertible, voxel_of
from attunet.display import NotebookView
from attunet.errors import DataError, GeometryError

__all__ = ["Affine", "Array", "Spacing", "Volume"]


@dataclass(frozen=True, eq=False)
class Volume(NotebookView):
    """An image of C channels on a regular grid.

    Args:
        array: (C, I, J, K), any real dtype; a 2-D image has K = 1.
        affine: 4x4, voxel indices (i, j, k) to RAS+ millimetres.
        unit: unit of length of the file it came from, in which formats that declare a unit write it again.
        calibrated: whether the file declares a spacing; otherwise the affine is an assumption.
    Raises: DataError when the array is not four-dimensional or is empty, GeometryError when the affine is not an
        invertible finite 4x4 matrix.
    """

    array: Array
    affine: Affine
    unit: str = "mm"
    calibrated: bool = True

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or 0 in self.array.shape:
            raise DataError(
                f"a volume needs a non-empty array (C, I, J, K), got shape {self.array.shape}",
                hint="use Volume.from_array for arrays of two or three axes",
            )
        affine = np.asarray(self.affine, dtype=np.float64)
        if not invertible(affine):
            raise GeometryError(
                f"the affine is not an invertible 4x4 matrix: {affine.tolist()}",
                hint="repair the file's header, or rewrite it with the spacing and direction it should have",
            )
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_array(cls, array: Array, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Self:
        """A volume from (I, J), (I, J, K) or (C, I, J, K) and a spacing in mm, axes taken as R, A, S."""
        full = (*spacing, 1.0)[:3] if len(spacing) == 2 else spacing
        if len(full) != 3:
            raise GeometryError(
                f"spacing needs 2 or 3 numbers, got {spacing}", hint="give the voxel size in mm along each axis"
            )
        shaped = {2: array[None, ..., None], 3: array[None]}.get(array.ndim, array)
        return cls(shaped, np.diag([*full, 1.0]))

    @property
    def channels(self) -> int:
        """C."""
        return int(self.array.shape[0])

    @property
    def spatial_shape(self) -> tuple[int, int, int]:
        """(I, J, K)."""
        i, j, k = self.array.shape[1:]
        return int(i), int(j), int(k)

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm along (I, J, K)."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel(self) -> Voxel:
        """The voxel's size in mm, or its edges if the grid is sheared, see `attunet.data.geometry`."""
        return voxel_of(self.affine)

    @property
    def orientation(self) -> str:
        """Nearest anatomical direction of each axis, such as RAS or LPS."""
        codes = []
        remaining = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        world = axis_order(remaining)
        for axis in range(3):
            sign = remaining[world[axis], axis] >= 0
            codes.append(("LR", "PA", "IS")[world[axis]][int(sign)])
        return "".join(codes)

    def with_array(self, array: Array) -> Volume:
        """A volume of another array (C, I, J, K) with the same affine and unit."""
        return replace(self, array=array)


def axis_order(directions: Affine) -> tuple[int, int, int]:
    """World axis (0 R, 1 A, 2 S) closest to each voxel axis; each world axis is assigned once, the closest first."""
    strength = np.abs(directions)
    order = [0, 0, 0]
    for _ in range(3):
        world, axis = np.unravel_index(int(np.argmax(strength)), (3, 3))
        order[int(axis)] = int(world)
        strength = strength.copy()
        strength[world, :] = -1.0
        strength[:, axis] = -1.0
    return order[0], order[1], order[2]
