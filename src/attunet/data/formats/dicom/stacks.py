"""Stacks: parallel slices in order along their normal, at one distance, with the affine that places their voxels.

Positions and directions of the slices alone decide. What is no stack is refused with the slices that are at fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.data.formats.dicom.elements import Vector
from attunet.data.formats.dicom.plane_spacing import check_spacing
from attunet.data.formats.dicom.slices import StoredSlice
from attunet.data.geometry import LPS_TO_RAS, TOLERANCE, Affine, shear_degrees
from attunet.errors import GeometryError
from attunet.names import listed

__all__ = ["Stack", "build_stack", "depths_of", "parallel", "picture_stack"]

Vectors = npt.NDArray[np.float64]
Depths = npt.NDArray[np.float64]
HINT = "export the series again, complete and as it was acquired"
PARALLEL = 1e-3
"""Largest difference of two cosines of one direction: about 0.05 degrees."""
ONE_PLACE = 1e-3
"""Slices closer than this, as a fraction of a pixel, are at one place."""
STRAIGHT = 0.05
"""A drift of the whole stack by less than this fraction of a pixel is the rounding of positions, not a tilt."""
WORTH_TELLING = 0.02
"""A slice farther from its place than this fraction of the step is told."""


class Stack(NamedTuple):
    """Slices that make a volume.

    Args:
        slices: in order along the normal.
        affine: 4x4, voxel indices (i, j, k) to RAS+ mm.
        notices: what was odd, in sentences.
        spaced: whether the files give the size of a pixel.
    """

    slices: tuple[StoredSlice, ...]
    affine: Affine
    notices: tuple[str, ...] = ()
    spaced: bool = True


def parallel(first: Vector | None, second: Vector | None) -> bool:
    """Whether two orientations are one."""
    if first is None or second is None:
        return first is second
    return max(abs(a - b) for a, b in zip(first, second, strict=True)) < PARALLEL


def depths_of(slices: Sequence[StoredSlice]) -> Depths:
    """The places of parallel slices along their normal, mm. Raises: GeometryError when one has no position."""
    unplaced = [one.name for one in slices if one.position is None or not np.isfinite(one.position).all()]
    if unplaced:
        raise GeometryError(f"{listed(unplaced, 4)} give no position in the patient", hint=HINT)
    positions: Vectors = np.array([one.position for one in slices], float)
    depths: Depths = positions @ _axes(slices[0])[2]
    return depths


def build_stack(slices: Sequence[StoredSlice]) -> Stack:
    """Put parallel slices in order.

    Raises: GeometryError, with the names of slices, when several are at one place, when some are missing or unevenly
        spaced, or when a slice is shifted within its plane.
    """
    depths = depths_of(slices)
    order = np.argsort(depths, kind="stable")
    ordered, depths = [slices[index] for index in order], depths[order]
    spacing = ordered[0].spacing or (1.0, 1.0)
    check_spacing(spacing, ordered[0].name)
    _refuse_repeated(ordered, depths, ONE_PLACE * min(spacing))
    row, column, normal = _axes(ordered[0])
    positions = np.array([one.position for one in ordered], float)
    notices: list[str] = []
    if len(ordered) == 1:
        step = normal * (ordered[0].thickness or 1.0)
        notices += ["it is a single slice, whose thickness is taken as the size of its voxels"]
    else:
        step = _step(ordered, positions, depths, normal, notices)
    affine = np.eye(4)
    affine[:3] = np.stack([row * spacing[1], column * spacing[0], step, positions[0]], axis=1)
    if angle := shear_degrees(affine):
        notices += [f"its slices are tilted by {angle:.1f} degrees (gantry tilt): the grid is sheared, not resampled"]
    if ordered[0].spacing is None:
        notices += ["it gives no pixel spacing: 1 mm is assumed"]
    return Stack(tuple(ordered), _as_stored(LPS_TO_RAS @ affine), tuple(notices), ordered[0].spacing is not None)


def picture_stack(slices: Sequence[StoredSlice]) -> Stack:
    """Images without a position, such as a radiograph or the frames of a cine, in the order of their file.

    Raises: GeometryError for an impossible spacing.
    """
    spacing = slices[0].spacing or (1.0, 1.0)
    check_spacing(spacing, slices[0].name)
    depth = 1.0 if len(slices) > 1 or not slices[0].thickness else slices[0].thickness
    notices = ["it gives no pixel spacing: 1 mm is assumed"] if slices[0].spacing is None else []
    if len(slices) > 1:
        notices += [f"its {len(slices)} frames are in time, not in space: they become slices, taken as 1 mm apart"]
    affine = LPS_TO_RAS @ np.diag([spacing[1], spacing[0], depth, 1.0])
    return Stack(tuple(slices), _as_stored(affine), tuple(notices), slices[0].spacing is not None)


def _as_stored(affine: Affine) -> Affine:
    """The affine in the numbers of NIfTI (float32), so that a series is prepared bit for bit like its conversion."""
    return affine.astype(np.float32).astype(np.float64)


def _axes(one: StoredSlice) -> tuple[Vectors, Vectors, Vectors]:
    """Unit vectors along a row, along a column and along the normal. Raises: GeometryError when there are none."""
    directions: Vectors = np.reshape(np.array(one.orientation, float), (2, 3))
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        row, column = directions / lengths
    if not np.isfinite([row, column]).all() or abs(lengths - 1).max() > 0.1 or abs(row @ column) > 0.01:
        raise GeometryError(f"the directions of rows and columns of {one.name} are not at right angles", hint=HINT)
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _refuse_repeated(slices: Sequence[StoredSlice], depths: Depths, closest: float) -> None:
    near = np.flatnonzero(np.diff(depths) < closest).tolist()
    if near:
        names = [f"{slices[at].name} and {slices[at + 1].name}" for at in near]
        raise GeometryError(
            f"several slices are at one place: {listed(names, 4)}",
            hint="remove the copies, or keep one acquisition in the folder",
        )


def _step(
    slices: Sequence[StoredSlice], positions: Vectors, depths: Depths, normal: Vectors, notices: list[str]
) -> Vectors:
    """The vector from a slice to the next. Raises: GeometryError when it is not the same everywhere."""
    count = len(slices)
    step = (positions[-1] - positions[0]) / (count - 1)
    length = float(step @ normal)
    along = np.abs(depths - depths[0] - np.arange(count) * length)
    if along.max() > TOLERANCE * length:
        raise _uneven(slices, depths)
    if along.max() > WORTH_TELLING * length:
        notices.append(f"its slices are up to {along.max():.3f} mm from places that are {length:.3f} mm apart")
    pixel = min(slices[0].spacing or (1.0, 1.0))
    expected = positions[0] + np.outer(np.arange(count), step)
    across = np.linalg.norm((positions - expected) - np.outer((positions - expected) @ normal, normal), axis=1)
    if across.max() > TOLERANCE * pixel:
        worst = int(across.argmax())
        raise GeometryError(
            f"{slices[worst].name} is shifted by {across[worst]:.2f} mm within its plane, against the other slices",
            hint=HINT,
        )
    drift = np.linalg.norm(step - normal * length) * (count - 1)
    return normal * length if drift < STRAIGHT * pixel else step


def _uneven(slices: Sequence[StoredSlice], depths: Depths) -> GeometryError:
    """The error for slices that are not at one distance: which are missing, or where the distance changes."""
    gaps = np.diff(depths)
    usual = float(np.median(gaps))
    wide = np.flatnonzero(np.abs(gaps - usual) > TOLERANCE * usual).tolist()
    multiples = gaps[wide] / usual
    places = [f"{gaps[at]:.2f} mm between {slices[at].name} and {slices[at + 1].name}" for at in wide]
    if wide and (multiples > 1.5).all() and np.abs(multiples - np.rint(multiples)).max() < TOLERANCE:
        lost = int((np.rint(multiples) - 1).sum())
        what = f"{lost} slice{'s are' if lost > 1 else ' is'} missing"
    else:
        what = "its slices are not at one distance"
        places = places or [f"from {gaps.min():.3f} to {gaps.max():.3f} mm"]
    return GeometryError(f"{what}: {listed(places, 3)}, where {usual:.2f} mm are usual", hint=HINT)
