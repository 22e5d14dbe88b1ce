"""Assembling the images of a series into volumes, by their positions in the patient alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from attunet.data.formats.dicom.headers import DicomHeader, StoredSlice
from attunet.data.formats.dicom.series import DicomSeries, SetAside
from attunet.data.geometry import LPS_TO_RAS, Affine
from attunet.errors import GeometryError
from attunet.names import listed

__all__ = ["assemble"]

UNEVEN = 0.1
"""How far a slice may be from its place in an even stack, as a fraction of the step."""


def assemble(headers: Sequence[DicomHeader]) -> tuple[list[DicomSeries], list[SetAside]]:
    """Make volumes of the images of one series.

    Args: the headers of its files, in any order.
    Returns: the volumes, and what cannot be one, with the reason.
    """
    first = headers[0]
    slices = _without_copies(headers)
    try:
        ordered = _sorted_along_normal(slices)
        affine = stack_affine(ordered)
    except GeometryError as error:
        files = tuple(one.path for one in slices)
        return [], [SetAside(_name_of(first), error.message, files)]
    layout = ordered[0].layout
    return [
        DicomSeries(
            uid=first.series_uid,
            study_uid=first.study_uid,
            modality=first.modality,
            description=first.description,
            number=first.number,
            files=tuple(one.path for one in ordered),
            shape=(layout.columns, layout.rows, len(ordered)),
            affine=affine,
            slices=tuple(ordered),
        )
    ], []


def stack_affine(slices: Sequence[StoredSlice]) -> Affine:
    """The affine (4, 4) of slices in order along their normal, voxel indices (i, j, k) to RAS+ millimetres.

    Raises: GeometryError when they are not evenly spaced.
    """
    row, column, normal = _axes(slices[0])
    positions = np.array([one.position for one in slices])
    depths = positions @ normal
    count = len(slices)
    step = (positions[-1] - positions[0]) / (count - 1) if count > 1 else normal * (slices[0].thickness or 1.0)
    even = depths[0] + np.arange(count) * float(step @ normal)
    off = np.abs(depths - even)
    if count > 2 and off.max() > UNEVEN * abs(step @ normal):
        gaps = np.diff(depths)
        worst = int(np.argmax(np.abs(gaps - np.median(gaps))))
        raise GeometryError(
            f"its slices are not evenly spaced: {gaps[worst]:.3f} mm between {slices[worst].path.name} and "
            f"{slices[worst + 1].path.name}, {np.median(gaps):.3f} mm between most others",
            hint="export the series again, complete",
        )
    spacing = slices[0].spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3] = np.stack([row * spacing[1], column * spacing[0], step, positions[0]], axis=1)
    return LPS_TO_RAS @ affine


def _axes(one: StoredSlice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors along a row, along a column and along the normal."""
    directions = np.array(one.orientation).reshape(2, 3)
    row, column = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return row, column, np.cross(row, column)


def _without_copies(headers: Sequence[DicomHeader]) -> list[StoredSlice]:
    seen: dict[str, DicomHeader] = {}
    for header in headers:
        seen.setdefault(header.instance_uid or str(header.path), header)
    return [one for header in seen.values() for one in header.slices]


def _sorted_along_normal(slices: Sequence[StoredSlice]) -> list[StoredSlice]:
    if any(one.position is None or one.orientation is None for one in slices):
        raise GeometryError("its files give no position in the patient", hint="export the series again")
    normal = _axes(slices[0])[2]
    depths: dict[float, list[StoredSlice]] = defaultdict(list)
    for one in slices:
        depths[round(float(np.array(one.position) @ normal), 3)].append(one)
    repeated = [one.path.name for same in depths.values() if len(same) > 1 for one in same]
    if repeated:
        raise GeometryError(f"several of its slices have one position: {listed(repeated)}", hint="remove the copies")
    return [depths[depth][0] for depth in sorted(depths)]


def _name_of(header: DicomHeader) -> str:
    return f"series {header.number if header.number is not None else header.series_uid}"
