"""DICOM segmentations: what a file says about its segments, without its frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from attunet.data.formats.dicom.elements import first_item, text_of, values_of, whole_of
from attunet.errors import FormatError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "AGAIN",
    "BINARY",
    "FRACTIONAL",
    "LABELMAP",
    "SEGMENTATIONS",
    "NamedSegment",
    "Segmentation",
    "parse_segmentation",
]

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
BINARY, FRACTIONAL, LABELMAP = "BINARY", "FRACTIONAL", "LABELMAP"
AGAIN = "export the segmentation again"


class NamedSegment(NamedTuple):
    """A segment: its number in the file, and its name."""

    number: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """What a segmentation says about itself.

    Args:
        path: the file.
        kind: BINARY, FRACTIONAL or LABELMAP.
        segments: in the order of the file, without the background of a label map.
        columns, rows: size of a frame.
        maximum: the value of a whole voxel where values are fractions.
        background: the value of no segment in a label map.
        series: SeriesInstanceUIDs of the images that were segmented.
        frames_of_reference: FrameOfReferenceUIDs in which it lies.
        notices: what is converted.
    """

    path: Path
    kind: str
    segments: tuple[NamedSegment, ...]
    columns: int
    rows: int
    maximum: int
    background: int
    series: frozenset[str]
    frames_of_reference: frozenset[str]
    notices: tuple[str, ...] = ()

    def numbers_of(self, name: str) -> list[int]:
        """The numbers of the segments with a name."""
        return [segment.number for segment in self.segments if segment.name == name]


def parse_segmentation(dataset: Dataset, path: Path) -> Segmentation:
    """The segmentation that a data set describes.

    Args:
        dataset: the data set, with or without pixels.
        path: the file.
    Returns: the segmentation.
    Raises: FormatError when it contradicts itself.
    """
    if dataset.get("TotalPixelMatrixColumns") is not None:
        raise FormatError(f"{path} segments a slide in tiles, which is not read", hint="convert it to a picture")
    kind = LABELMAP if dataset.get("SOPClassUID") == SEGMENTATIONS[1] else text_of(dataset, "SegmentationType")
    if kind not in (BINARY, FRACTIONAL, LABELMAP):
        raise FormatError(f"{path} is a segmentation of the unknown type {kind[:16] or 'none'}", hint=AGAIN)
    background = whole_of(dataset, "PixelPaddingValue") or 0 if kind == LABELMAP else 0
    meaning = text_of(dataset, "SegmentationFractionalType").lower() or "fractions"
    notices = [f"its values are fractions ({meaning}): voxels of at least a half count"] if kind == FRACTIONAL else []
    return Segmentation(
        path=path,
        kind=kind,
        segments=_segments(dataset, path, background),
        columns=int(dataset.Columns),
        rows=int(dataset.Rows),
        maximum=whole_of(dataset, "MaximumFractionalValue") or 255,
        background=background,
        series=_series(dataset),
        frames_of_reference=frozenset({text_of(dataset, "FrameOfReferenceUID")} - {""}),
        notices=tuple(notices),
    )


def _segments(dataset: Dataset, path: Path, background: int) -> tuple[NamedSegment, ...]:
    found = [_segment(item) for item in values_of(dataset, "SegmentSequence")]
    segments = tuple(segment for segment in found if segment.number != background)
    if not segments:
        raise FormatError(f"{path} has no segments", hint=AGAIN)
    if len({segment.number for segment in segments}) < len(segments):
        raise FormatError(f"{path} has several segments of one number", hint=AGAIN)
    return segments


def _segment(item: Dataset) -> NamedSegment:
    number = int(item.SegmentNumber)
    code = first_item(item, "SegmentedPropertyTypeCodeSequence")
    meaning = "" if code is None else text_of(code, "CodeMeaning")
    return NamedSegment(number, text_of(item, "SegmentLabel") or meaning or f"segment_{number}")


def _series(dataset: Dataset) -> frozenset[str]:
    series = {text_of(item, "SeriesInstanceUID") for item in values_of(dataset, "ReferencedSeriesSequence")}
    for study in values_of(dataset, "StudiesContainingOtherReferencedInstancesSequence"):
        series |= {text_of(item, "SeriesInstanceUID") for item in values_of(study, "ReferencedSeriesSequence")}
    return frozenset(series - {""})
