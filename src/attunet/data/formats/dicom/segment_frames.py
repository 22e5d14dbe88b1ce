"""The frames of a DICOM segmentation: the segment of each, and where it lies in the patient.

Frames are placed by their own positions; their order, SliceThickness and dimension indices are not trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.data.formats.dicom.contours import Places
from attunet.data.formats.dicom.elements import Vector, first_item, number_of, values_of, vector_of, whole_of
from attunet.data.formats.dicom.segmentation import AGAIN, LABELMAP, Segmentation
from attunet.data.geometry import LPS_TO_RAS
from attunet.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

__all__ = ["Planes", "SegmentFrames", "parse_frames"]

Planes = npt.NDArray[np.float64]
"""(F, 3, 3): of each frame the step from column to column, the step from row to row, and the centre of the first pixel,
RAS+ mm.
"""


class SegmentFrames(NamedTuple):
    """The frames of a segmentation.

    Args:
        numbers: (F,), the segment of each frame; all 0 in a label map.
        planes: where each lies; None when the file does not say, as for pictures without a place in the patient.
        thickness: mm between slices, which matters only where there is one slice.
    """

    numbers: Places
    planes: Planes | None
    thickness: float


def parse_frames(dataset: Dataset, segmentation: Segmentation) -> SegmentFrames:
    """The frames that a data set describes.

    Raises: FormatError when it contradicts itself, or does not say where some of its frames lie.
    """
    path = segmentation.path
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    frames = values_of(dataset, "PerFrameFunctionalGroupsSequence")
    count = whole_of(dataset, "NumberOfFrames") or 1
    if len(frames) != count:
        raise FormatError(f"{path} has {count} frames, and describes {len(frames)}", hint=AGAIN)
    numbers = np.zeros(count, np.intp)
    if segmentation.kind != LABELMAP:
        numbers[:] = [_number(frame, shared, path) for frame in frames]
        if unknown := set(numbers.tolist()) - {segment.number for segment in segmentation.segments}:
            raise FormatError(f"{path} has frames of a segment {min(unknown)}, which it does not name", hint=AGAIN)
    return SegmentFrames(numbers, _planes(frames, shared, path), _thickness(frames, shared))


def _number(frame: Dataset, shared: Dataset | None, path: Path) -> int:
    group = _group(frame, shared, "SegmentIdentificationSequence")
    number = None if group is None else whole_of(group, "ReferencedSegmentNumber")
    if number is None:
        raise FormatError(f"{path} has frames that name no segment", hint=AGAIN)
    return number


def _group(frame: Dataset, shared: Dataset | None, name: str) -> Dataset | None:
    """The functional group of a frame, or that of all frames."""
    own = first_item(frame, name)
    return first_item(shared, name) if own is None and shared is not None else own


def _planes(frames: Sequence[Dataset], shared: Dataset | None, path: Path) -> Planes | None:
    """Where the frames lie; None when no frame has a position. Raises: FormatError when only some have."""
    places = [
        (
            _vector(_group(frame, shared, "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
            _vector(_group(frame, shared, "PixelMeasuresSequence"), "PixelSpacing", 2),
            _vector(_group(frame, shared, "PlanePositionSequence"), "ImagePositionPatient", 3),
        )
        for frame in frames
    ]
    if all(position is None for _, _, position in places):
        return None
    planes = np.full((len(frames), 3, 3), np.nan)
    for plane, (orientation, spacing, position) in zip(planes, places, strict=True):
        if orientation is not None and spacing is not None and position is not None and min(spacing) > 0:
            directions = np.reshape(orientation, (2, 3))  # of rows and columns, that is across columns and rows
            plane[:] = np.stack([directions[0] * spacing[1], directions[1] * spacing[0], position], axis=1)
    if not np.isfinite(planes).all():
        raise FormatError(f"{path} has frames without position, orientation or spacing", hint=AGAIN)
    return np.asarray(LPS_TO_RAS[:3, :3] @ planes)


def _vector(group: Dataset | None, name: str, length: int) -> Vector | None:
    return None if group is None else vector_of(group, name, length)


def _thickness(frames: Sequence[Dataset], shared: Dataset | None) -> float:
    group = _group(frames[0], shared, "PixelMeasuresSequence")
    names = () if group is None else ("SpacingBetweenSlices", "SliceThickness")
    values = [number_of(group, name) for name in names if group is not None]
    return next((value for value in values if value is not None and 0 < value < np.inf), 1.0)
