"""A synthetic patient: its coordinates, and the shapes that organs are painted with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline

__all__ = ["AIR", "PHANTOM_LABELS", "Patient", "Point"]

PHANTOM_LABELS = {"background": 0, "liver": 1, "spleen": 2, "kidneys": 3, "pancreas": 4}
AIR = -1000

Triple = tuple[int, int, int]
Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]

_EXTENT = (336.0, 280.0, 240.0)  # mm that the abdomen is designed for; other fields of view scale it
_MARGIN = 0.01  # mm: more than the rounding errors of float32 coordinates


@dataclass
class Patient:
    """A patient on a voxel grid, all arrays (I, J, K).

    Args:
        left, back, up: position of each voxel in mm from the middle of the body.
        random: source of everything that varies.
        hu: intensities painted so far, HU.
        label: label values painted so far, of `PHANTOM_LABELS`.
        free: voxels that nothing has been painted into.
    """

    left: Field
    back: Field
    up: Field
    random: np.random.Generator
    hu: Field
    label: npt.NDArray[np.uint8]
    free: Mask

    @classmethod
    def empty(cls, shape: Triple, random: np.random.Generator, extent: Point = _EXTENT) -> Patient:
        """A patient without organs, on a grid that is rotated, scaled and warped slightly, so that no two are equal.

        Args:
            shape: voxels (I, J, K).
            random: source of everything that varies.
            extent: of the grid along these axes in mm of the anatomy.
        Returns: the patient, all air.
        """
        faces = zip(shape, extent, strict=True)
        axes = [((np.arange(size) + 0.5) / size - 0.5) * extent for size, extent in faces]
        grid = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
        angle, scale = random.normal(0, 0.06), random.normal(1, 0.04, 3).clip(0.9, 1.1)
        rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        x, y, z = np.tensordot((rotation / scale[:, None]).astype(np.float32), grid, axes=1)
        shift = random.normal(0, (4, 4, 8)).astype(np.float32)
        return cls(
            left=x + shift[0] + _ripple(grid, random),
            back=y + shift[1] + _ripple(grid, random),
            up=z + shift[2] + _ripple(grid, random),
            random=random,
            hu=np.full(shape, AIR, dtype=np.float32),
            label=np.zeros(shape, dtype=np.uint8),
            free=np.ones(shape, dtype=bool),
        )

    def vary(self, middle: float, spread: float) -> float:
        """A random number around `middle`, at most two standard deviations (`spread`) away."""
        return float(np.clip(self.random.normal(middle, spread), middle - 2 * spread, middle + 2 * spread))

    def near(self, *point: float, spread: float = 5.0) -> Point:
        """A random point around `point`."""
        x, y, z = (self.vary(value, spread) for value in point)
        return x, y, z

    def ellipsoid(self, centre: Point, radii: Point, tilt: float = 0.0) -> Mask:
        """Rasterise an ellipsoid.

        Args:
            centre: its centre (left, back, up), mm.
            radii: its radii along these axes, mm.
            tilt: rotation in the axial plane, radians.
        Returns: the voxels inside.
        """
        half = (
            float(np.hypot(radii[0] * np.cos(tilt), radii[1] * np.sin(tilt))),
            float(np.hypot(radii[0] * np.sin(tilt), radii[1] * np.cos(tilt))),
            radii[2],
        )
        inside = np.zeros(self.free.shape, dtype=bool)
        box = self._box(centre, half)
        x, y, z = self.left[box] - centre[0], self.back[box] - centre[1], self.up[box] - centre[2]
        across, along = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
        inside[box] = (across / radii[0]) ** 2 + (along / radii[1]) ** 2 + (z / radii[2]) ** 2 < 1
        return inside

    def tube(self, points: Sequence[Point], radii: Sequence[float]) -> Mask:
        """Voxels inside a tube along a smooth curve through `points`, whose radius varies along it as `radii`."""
        length = sum(float(np.linalg.norm(np.subtract(b, a))) for a, b in pairwise(points))
        steps = np.linspace(0, 1, max(3, int(length / (0.6 * min(radii)))))
        curve = make_interp_spline(np.linspace(0, 1, len(points)), points, k=min(3, len(points) - 1))
        widths = np.interp(steps, np.linspace(0, 1, len(radii)), radii).astype(np.float32)
        inside = np.zeros(self.free.shape, dtype=bool)
        for (x, y, z), width in zip(curve(steps).astype(np.float32), widths, strict=True):
            box = self._box((float(x), float(y), float(z)), (float(width),) * 3)
            distance = (self.left[box] - x) ** 2 + (self.back[box] - y) ** 2 + (self.up[box] - z) ** 2
            inside[box] |= distance < width**2
        return inside

    def paint(self, mask: Mask, hu: float, label: str = "background") -> None:
        """Paint the free voxels of a mask; from then on the mask is not free.

        Args:
            mask: voxels to paint.
            hu: their intensity, HU.
            label: name of their label, of `PHANTOM_LABELS`.
        """
        inside = mask & self.free
        self.hu[inside] = hu
        self.label[inside] = PHANTOM_LABELS[label]
        self.free &= ~mask

    def _box(self, centre: Point, half: Point) -> Box:
        """A box of voxels outside of which no position lies within `half` mm of the centre along every axis."""
        ranges = []
        for (lowest, highest), middle, reach in zip(self._ends, centre, half, strict=True):
            near = (highest >= middle - reach - _MARGIN) & (lowest <= middle + reach + _MARGIN)
            found = np.flatnonzero(near)
            ranges.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0))
        return ranges[0], ranges[1], ranges[2]

    @cached_property
    def _ends(self) -> list[tuple[Field, Field]]:
        """The lowest and the highest position along an axis, in each layer of voxels across that axis."""
        others = ((1, 2), (0, 2), (0, 1))
        fields = (self.left, self.back, self.up)
        return [(field.min(axis=axes), field.max(axis=axes)) for field, axes in zip(fields, others, strict=True)]


def _ripple(grid: Field, random: np.random.Generator) -> Field:
    """A smooth displacement in mm: waves of random direction, longer than an organ."""
    total = np.zeros(grid.shape[1:], dtype=np.float32)
    for _ in range(3):
        direction = (random.normal(size=3) / 35).astype(np.float32)
        total += 2.5 * np.sin(np.tensordot(direction, grid, axes=1) + np.float32(random.uniform(0, 2 * np.pi)))
    return total
