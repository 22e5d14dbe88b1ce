"""The fingerprint of a case: its size, its intensities, and the positions of its labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np

from attunet.data.cases import Case, GeometryPolicy, read_case
from attunet.data.intensities import ValueSpread, value_spread
from attunet.data.label_checks import has_soft_edges
from attunet.data.modality import CaseChannels, case_channels
from attunet.data.orientation import canonical, content_box, tilt_degrees
from attunet.data.volume import Array, Volume
from attunet.errors import DataError

__all__ = ["CLIPPED", "CaseFingerprint", "LabelPosition", "locate_labels", "read_case_fingerprint"]

Point = tuple[float, float, float]
CLIPPED = (0.5, 99.5)
"""Percentiles of labelled voxels to which the intensities of a CT are clipped."""
_SAMPLES_PER_CASE = 20_000
_PARTS = 16
"""Parts along each axis into which a case is divided, to see how far its labels spread."""


class LabelPosition(NamedTuple):
    """Where a label value lies in one case.

    Args:
        voxels: their number.
        centroid: (x, y, z) from the centre of the content, in mm along the canonical axes (right, front, up); array
            indices where `locate_labels` returns it.
        parts: a bit for each part of the case, 16 along each axis, that holds such a voxel.
    """

    voxels: int
    centroid: Point
    parts: int = 0


@dataclass(frozen=True)
class CaseFingerprint:
    """One case on canonical axes, cropped to its content.

    Args:
        shape: voxels of the content.
        clipped_shape: voxels of the content when intensities below the lower bound `CLIPPED` count as background (CT).
        spacing: voxel size in mm.
        intensities: (channels, samples) of the foreground, or of the whole image if nothing is labelled.
        label_voxels: number of voxels by label value.
        channels: what says which modality each channel is.
        spreads: how the values of each channel of the content are distributed.
        tilt: largest angle between an axis of the image and the patient's, in degrees.
        positions: by label value, without the background.
        parts: number of parts into which the case is divided for `LabelPosition.parts`; 0 when it is unknown.
        soft: whether the label looks like a mask with soft edges.
    """

    shape: tuple[int, int, int]
    clipped_shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    intensities: Array
    label_voxels: dict[int, int]
    channels: CaseChannels
    spreads: tuple[ValueSpread, ...]
    tilt: float = 0.0
    positions: dict[int, LabelPosition] = field(default_factory=dict)
    parts: int = 0
    soft: bool = False


def read_case_fingerprint(case: Case, geometry: GeometryPolicy, background: int = 0) -> CaseFingerprint:
    """Read a labelled case.

    Args:
        case: a case with a label.
        geometry: what to do when the grids of image and label differ.
        background: value of the background in the label files.
    Returns: its fingerprint.
    Raises: DataError for NaN; otherwise as `read_case`.
    """
    image, label = read_case(case, geometry=geometry)
    assert label is not None
    start, size = content_box(image.array, crop=True)
    box = tuple(slice(low, low + length) for low, length in zip(start, size, strict=True))
    content = Volume(image.array[:, *box], image.affine)
    intensities = _sample(content.array, label.array[0][box], background)
    if not np.isfinite(intensities).all():
        raise DataError(
            f"the image of case {case.id} contains NaN or infinite values, expected finite numbers",
            hint="replace them with a number, such as the value of air or background",
        )
    upright, axes, _ = canonical(content)
    _, clipped = content_box(content.array, crop=True, floors=np.percentile(intensities, CLIPPED[0], axis=1).tolist())
    i, j, k = (clipped[axis] for axis in axes)
    middle = np.array(start) + np.array(size) / 2 - 0.5
    located = locate_labels(label.array[0], background)
    voxels = {value: position.voxels for value, position in located.items()}
    counts = {background: label.array.size - sum(voxels.values()), **voxels}
    return CaseFingerprint(
        shape=upright.spatial_shape,
        clipped_shape=(i, j, k),
        spacing=upright.spacing,
        intensities=intensities,
        label_voxels=counts,
        channels=case_channels(case, image),
        spreads=tuple(map(value_spread, content.array)),
        tilt=tilt_degrees(upright.affine),
        positions={
            value: position._replace(centroid=_in_mm(position, middle, content)) for value, position in located.items()
        },
        parts=prod(min(size, _PARTS) for size in label.array.shape[1:]),
        soft=has_soft_edges(label.array[0], counts),
    )


def locate_labels(label: Array, background: int = 0) -> dict[int, LabelPosition]:
    """Voxels, centroid as array indices, and parts of every value of (I, J, K) but the background.

    Plane by plane, and only where something is labelled, so that a large volume costs no second copy.
    """
    order = np.argsort([-stride for stride in label.strides], kind="stable")
    totals: dict[int, Array] = {}
    parts: dict[int, Array] = {}
    planes = label.transpose(order)
    for height, plane in enumerate(planes):
        inside = np.flatnonzero(plane != background)
        if not inside.size:
            continue
        rows, columns = np.divmod(inside, plane.shape[1])
        values, index = np.unique(plane.ravel()[inside], return_inverse=True)
        counts = np.bincount(index)
        sums = np.stack([counts, counts * height, np.bincount(index, rows), np.bincount(index, columns)], axis=1)
        along = (_part(height, len(planes)), _part(rows, plane.shape[0]), _part(columns, plane.shape[1]))
        held = np.zeros((len(values), _PARTS**3), bool)
        held[index, np.ravel_multi_index(np.broadcast_arrays(*along), (_PARTS,) * 3)] = True
        for value, row, there in zip(values.tolist(), sums, held, strict=True):
            totals[value] = totals.get(value, 0) + row
            parts[value] = parts.get(value, False) | there
    positions = {}
    for value in sorted(totals):
        count, *moments = totals[value]
        i, j, k = (float(moments[int(np.flatnonzero(order == axis)[0])] / count) for axis in range(3))
        held_by = int.from_bytes(np.packbits(parts[value]).tobytes())
        positions[value] = LabelPosition(int(count), (i, j, k), held_by)
    return positions


def _part(index: Array | int, size: int) -> Array | int:
    return index * _PARTS // size if size > _PARTS else index


def _in_mm(position: LabelPosition, middle: Array, content: Volume) -> Point:
    _, axes, flips = canonical(content)
    offset = (np.array(position.centroid) - middle) * content.spacing
    x, y, z = (float(-offset[axis] if flip else offset[axis]) for axis, flip in zip(axes, flips, strict=True))
    return x, y, z


def _sample(image: Array, label: Array, background: int) -> Array:
    flat = image.reshape(image.shape[0], -1)
    inside = np.flatnonzero(label != background)
    if inside.size == 0:
        inside = np.arange(flat.shape[1])
    step = max(1, inside.size // _SAMPLES_PER_CASE)
    return flat[:, inside[::step]].astype(np.float32)
