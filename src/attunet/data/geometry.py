"""Voxels in millimetres: units of files, volumes and distances on any grid, and how exactly two grids must agree.

The voxel of a grid is a `Voxel`: its size along the axes where they are orthogonal, otherwise (a sheared grid, as of a
CT with a tilted gantry) the matrix of its edges.
"""

from __future__ import annotations

from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "LPS_TO_RAS",
    "MAX_SCALE",
    "MM_PER_UNIT",
    "TOLERANCE",
    "Affine",
    "Array",
    "Spacing",
    "Voxel",
    "invertible",
    "length_unit",
    "reach_in_voxels",
    "rounded",
    "shear_degrees",
    "to_positions",
    "voxel_ml",
    "voxel_of",
]

Array = npt.NDArray[Any]
Affine = npt.NDArray[np.float64]
Spacing = tuple[float, float, float]
Voxel = tuple[float, ...] | Affine
"""Size in mm along each axis of an orthogonal grid; for a sheared one the matrix whose columns are its edges in mm."""

LPS_TO_RAS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns the world of DICOM and ITK into ours, and back."""

MAX_SCALE = 100.0
"""The largest ratio of a voxel's edge to that of other images; beyond it, one of the units is wrong."""

TOLERANCE = 0.1
"""Two grids are one if the same corner voxels are closer than this share of the smallest voxel edge."""

ORTHOGONAL = 1e-4  # cosine of two axes below which they are at right angles: headers keep float32 numbers

MM_PER_UNIT: dict[str, float] = {
    "m": 1e3,
    "dm": 1e2,
    "cm": 1e1,
    "mm": 1.0,
    "µm": 1e-3,
    "nm": 1e-6,
    "pm": 1e-9,
    "Å": 1e-7,
    "in": 25.4,
}
"""Millimetres of every unit of length that files declare."""

_SPELLINGS: dict[str, str] = {
    **dict.fromkeys(("meter", "metre", "meters", "metres"), "m"),
    **dict.fromkeys(("decimeter", "decimetre"), "dm"),
    **dict.fromkeys(("centimeter", "centimetre", "centimeters", "centimetres"), "cm"),
    **dict.fromkeys(("millimeter", "millimetre", "millimeters", "millimetres"), "mm"),
    **dict.fromkeys(("um", "\u03bcm", "micron", "microns", "micrometer", "micrometre", "micrometers"), "µm"),
    **dict.fromkeys(("nanometer", "nanometre", "nanometers", "nanometres"), "nm"),
    **dict.fromkeys(("picometer", "picometre"), "pm"),
    **dict.fromkeys(("angstrom", "\u212b"), "Å"),
    **dict.fromkeys(("inch", "inches"), "in"),
}


def length_unit(text: str) -> str | None:
    """The unit, a key of `MM_PER_UNIT`, that a file spells in some way ("micron", "um", "metre"); None if unknown."""
    written = text.strip().strip("\"'")
    for spelling in (written, written.lower()):
        unit = _SPELLINGS.get(spelling, spelling)
        if unit in MM_PER_UNIT:
            return unit
    return None


def invertible(affine: Affine) -> bool:
    """Whether a matrix is an affine (4, 4) whose axes have a length and are independent, whatever the voxel size."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of unit vectors: 1 for right angles, 0 for axes in one plane.
    return bool((lengths > 0).all() and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-6)


def voxel_of(affine: Affine) -> Voxel:
    """The voxel of a grid with this affine (4, 4): its size in mm, or its edges if the grid is sheared."""
    edges = affine[:3, :3]
    lengths = np.linalg.norm(edges, axis=0)
    return edges if shear_degrees(affine) else tuple(map(float, lengths))


def shear_degrees(affine: Affine) -> float:
    """The largest deviation of two axes from a right angle, degrees; 0 for an orthogonal grid."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = float(np.abs(np.triu(directions.T @ directions, 1)).max())
    return float(np.degrees(np.arcsin(min(1.0, cosine)))) if cosine > ORTHOGONAL else 0.0


def voxel_ml(voxel: Voxel) -> float:
    """Volume of a voxel in millilitres, from the determinant of its edges."""
    cubic_mm = abs(np.linalg.det(voxel)) if isinstance(voxel, np.ndarray) else prod(voxel)
    return float(cubic_mm) / 1000.0


def rounded(value: float, digits: int) -> float:
    """A length or volume to this many decimals, or significant digits below 0.1: a small one never becomes 0."""
    return round(value, digits) if abs(value) >= 0.1 else float(f"{value:.{digits}g}")


def to_positions(indices: npt.NDArray[np.integer[Any]], voxel: Voxel) -> npt.NDArray[np.float64]:
    """Positions (N, D) in mm, relative to the first voxel, of voxel indices (N, D); distances between them are true."""
    if isinstance(voxel, np.ndarray):
        return np.asarray(indices @ voxel.T, dtype=np.float64)
    return np.asarray(indices * np.array(voxel), dtype=np.float64)


def reach_in_voxels(voxel: Voxel, reach: float) -> tuple[int, ...]:
    """How many voxels along each axis a ball of radius `reach` mm covers, rounded up."""
    if isinstance(voxel, np.ndarray):
        return tuple(ceil(reach * length) for length in np.linalg.norm(np.linalg.inv(voxel), axis=1))
    return tuple(ceil(reach / step) for step in voxel)
