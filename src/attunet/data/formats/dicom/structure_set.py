"""RT structure sets: the regions of interest (ROIs) in a file, and the closed contours of each.

Only names and contours are read: nothing of the patient, of physicians or of dates.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from attunet.data.formats.dicom.elements import text_of, values_of
from attunet.data.geometry import LPS_TO_RAS
from attunet.errors import FormatError
from attunet.names import listed

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["STRUCTURE_SET", "Points", "RegionOfInterest", "StructureSet", "parse_structure_set"]

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED, EXCLUSIVE = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
MOST_CONTOURS = 100_000
"""Contours of one ROI; a large one has some thousands."""
FARTHEST = 1e5
"""Largest coordinate in mm that can lie in a patient."""

Points = npt.NDArray[np.float64]
"""(N, 3): vertices of a closed contour, RAS+ mm."""


@dataclass(frozen=True)
class RegionOfInterest:
    """An ROI that has closed contours.

    Args:
        name: as written.
        contours: in the order of the file.
        exclusive: whether a point in an even number of its contours is outside, by CLOSEDPLANAR_XOR; otherwise contours
            may be parts, or holes in others.
    """

    name: str
    contours: tuple[Points, ...]
    exclusive: bool = False


@dataclass(frozen=True)
class StructureSet:
    """What a structure set holds.

    Args:
        path: the file.
        regions: its ROIs with closed contours, in the order of the file.
        series: SeriesInstanceUIDs of the images that they were drawn on.
        frames_of_reference: FrameOfReferenceUIDs in which they lie.
        notices: ROIs and contours that were left out, and why.
    """

    path: Path
    regions: tuple[RegionOfInterest, ...]
    series: frozenset[str]
    frames_of_reference: frozenset[str]
    notices: tuple[str, ...] = ()


def parse_structure_set(dataset: Dataset, path: Path) -> StructureSet:
    """The structure set that a data set describes.

    Args:
        dataset: the data set.
        path: its file.
    Returns: the structure set.
    Raises: FormatError when it contradicts itself, or has contours that cannot be used.
    """
    names = {
        str(item.get("ROINumber")): text_of(item, "ROIName") or f"ROI_{item.get('ROINumber')}"
        for item in values_of(dataset, "StructureSetROISequence")
    }
    drawn: dict[str, list[Dataset]] = {number: [] for number in names}
    for item in values_of(dataset, "ROIContourSequence"):
        number = str(item.get("ReferencedROINumber"))
        if number not in names:
            raise FormatError(
                f"{path} has contours of an ROI {number}, which it does not name",
                hint="export the structure set again",
            )
        drawn[number] += values_of(item, "ContourSequence")
    notices: list[str] = []
    regions = []
    for number, name in names.items():
        region, found = _region(name, drawn[number], path)
        notices += found
        regions += [] if region is None else [region]
    return StructureSet(path, tuple(regions), *_references(dataset), tuple(notices))


def _region(name: str, items: list[Dataset], path: Path) -> tuple[RegionOfInterest | None, list[str]]:
    """An ROI, None when it has no closed contour; and what was left out of it."""
    if len(items) > MOST_CONTOURS:
        raise FormatError(
            f"the ROI {name} in {path} has {len(items)} contours, more than {MOST_CONTOURS}",
            hint="export the structure set again, without this ROI",
        )
    kinds = [text_of(item, "ContourGeometricType").upper() or "no type" for item in items]
    contours = []
    left_out: Counter[str] = Counter()
    for item, kind in zip(items, kinds, strict=True):
        if kind not in (CLOSED, EXCLUSIVE):
            left_out[kind] += 1
        elif len(points := _points(item, name, path)) < 3:
            left_out["fewer than three points"] += 1
        else:
            contours.append(points)
    notices = [] if items else [f"the ROI {name} is left out: it has no contours"]
    if left_out:
        what = listed([f"{count} of {kind}" for kind, count in left_out.items()])
        rest = "" if contours else ", and so is the ROI"
        notices.append(f"contours of the ROI {name} other than closed planar ones are left out ({what}){rest}")
    if not contours:
        return None, notices
    if CLOSED in kinds and EXCLUSIVE in kinds:
        raise FormatError(
            f"the ROI {name} in {path} has contours of {CLOSED} and of {EXCLUSIVE}, which exclude each other",
            hint="export the structure set again",
        )
    return RegionOfInterest(name, tuple(contours), EXCLUSIVE in kinds), notices


def _points(item: Dataset, name: str, path: Path) -> Points:
    """The vertices of a contour, without the last one where it repeats the first."""
    numbers = _numbers(item)
    if numbers.size % 3 or not np.isfinite(numbers).all() or (np.abs(numbers) > FARTHEST).any():
        what = "coordinates that are no numbers of a patient in mm" if numbers.size % 3 == 0 else "incomplete points"
        raise FormatError(f"the ROI {name} in {path} has {what}", hint="export the structure set again")
    points = numbers.reshape(-1, 3)
    if len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    return np.asarray(points @ LPS_TO_RAS[:3, :3])


def _numbers(item: Dataset) -> npt.NDArray[np.float64]:
    """The coordinates of a contour, straight from the bytes: pydicom takes a hundred times as long; NaN for text."""
    element: Any = item.get_item("ContourData")
    value = b"" if element is None else element.value
    if not isinstance(value, bytes):
        return np.array(value, np.float64).ravel()
    text = value.strip(b"\0 ")
    if not text:
        return np.zeros(0)
    try:
        numbers = np.fromstring(text, sep="\\")
    except ValueError:  # which older versions of numpy only warn of
        numbers = np.zeros(0)
    return numbers if numbers.size == text.count(b"\\") + 1 else np.full(3, np.nan)


def _references(dataset: Dataset) -> tuple[frozenset[str], frozenset[str]]:
    """The series and the frames of reference that a structure set names."""
    frames = values_of(dataset, "ReferencedFrameOfReferenceSequence")
    series = {
        text_of(item, "SeriesInstanceUID")
        for frame in frames
        for study in values_of(frame, "RTReferencedStudySequence")
        for item in values_of(study, "RTReferencedSeriesSequence")
    }
    uids = {text_of(frame, "FrameOfReferenceUID") for frame in frames}
    uids |= {text_of(item, "ReferencedFrameOfReferenceUID") for item in values_of(dataset, "StructureSetROISequence")}
    uids.add(text_of(dataset, "FrameOfReferenceUID"))
    return frozenset(series - {""}), frozenset(uids - {""})
