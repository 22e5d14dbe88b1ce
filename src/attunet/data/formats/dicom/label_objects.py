"""DICOM objects that hold labels of a series: segmentations and structure sets, and the masks in them by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attunet.data.formats.dicom.objects import read_object, reading_object
from attunet.data.formats.dicom.roi_masks import roi_mask
from attunet.data.formats.dicom.segment_masks import segment_masks
from attunet.data.formats.dicom.segmentation import SEGMENTATIONS, Segmentation, parse_segmentation
from attunet.data.formats.dicom.structure_set import STRUCTURE_SET, StructureSet, parse_structure_set
from attunet.data.volume import Volume
from attunet.errors import FormatError, GeometryError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["LabelObject", "NoticeHook", "read_label_object", "read_named_masks"]

ELEMENTS = (
    *("SOPClassUID", "FrameOfReferenceUID", "StructureSetROISequence", "ROIContourSequence"),
    *("ReferencedFrameOfReferenceSequence", "SegmentationType", "SegmentSequence", "Rows", "Columns"),
    *("ReferencedSeriesSequence", "StudiesContainingOtherReferencedInstancesSequence", "TotalPixelMatrixColumns"),
    *("PixelPaddingValue", "MaximumFractionalValue", "SegmentationFractionalType"),
)
"""What tells the names in an object, and what it belongs to."""

NoticeHook = Callable[[str], None]
"""Called with what was left out, united or is odd in a mask."""


@dataclass(frozen=True, kw_only=True)
class LabelObject:
    """What a segmentation or a structure set holds.

    Args:
        path: the file.
        names: of its segments or ROIs that have a mask, in the order of the file, each once.
        series: SeriesInstanceUIDs of the images that they belong to.
        frames_of_reference: FrameOfReferenceUIDs in which they lie.
        contours: whether it holds contours, which have voxels only on the grid of an image.
        notices: what was left out or converted.
    """

    path: Path
    names: tuple[str, ...]
    series: frozenset[str]
    frames_of_reference: frozenset[str]
    contours: bool
    notices: tuple[str, ...]


def read_label_object(path: Path) -> LabelObject:
    """Read what an object holds, without its frames.

    Raises: FormatError when it is damaged or of another kind; EngineError when pydicom is not installed.
    """
    dataset = read_object(path, ELEMENTS)
    with reading_object(path):
        return _described(_parsed(dataset, path))


def read_named_masks(
    path: Path, names: Sequence[str], grid: Volume | None = None, on_notice: NoticeHook = lambda _notice: None
) -> Iterator[Volume]:
    """Read masks of an object, one after the other.

    Args:
        path: the object.
        names: of segments or ROIs; those of one name are united.
        grid: the image that they belong to, or any volume on its grid; None: unknown, which only segmentations allow.
        on_notice: called with what is odd about a mask.
    Returns: for each name a volume of 0 and 1, on the grid of the image; see `segment_masks` for others.
    Raises: FormatError when there is no such name or the file is damaged, GeometryError when a mask cannot be placed.
    """
    dataset = read_object(path)
    with reading_object(path):
        parsed = _parsed(dataset, path)
    masks = (
        segment_masks(parsed, dataset, names, grid)
        if isinstance(parsed, Segmentation)
        else _roi_masks(parsed, names, grid, on_notice)
    )
    for _ in names:
        with reading_object(path):
            mask = next(masks)
        yield mask


def _parsed(dataset: Dataset, path: Path) -> Segmentation | StructureSet:
    kind = str(dataset.get("SOPClassUID", ""))
    if kind == STRUCTURE_SET:
        return parse_structure_set(dataset, path)
    if kind in SEGMENTATIONS:
        return parse_segmentation(dataset, path)
    raise FormatError(
        f"{path} is neither a segmentation nor a structure set", hint="give a SEG or RTSTRUCT object as the label"
    )


def _described(parsed: Segmentation | StructureSet) -> LabelObject:
    contours = isinstance(parsed, StructureSet)
    held = parsed.regions if isinstance(parsed, StructureSet) else parsed.segments
    return LabelObject(
        path=parsed.path,
        names=tuple(dict.fromkeys(one.name for one in held)),
        series=parsed.series,
        frames_of_reference=parsed.frames_of_reference,
        contours=contours,
        notices=parsed.notices,
    )


def _roi_masks(
    structures: StructureSet, names: Sequence[str], grid: Volume | None, on_notice: NoticeHook
) -> Iterator[Volume]:
    """The masks of ROIs. Raises: FormatError without such an ROI, GeometryError as `roi_mask` and without a grid."""
    if grid is None:
        raise GeometryError(
            f"{structures.path} holds contours, which have voxels only on the grid of an image",
            hint="give it as the label of the images that it was drawn on",
        )
    for name in names:
        regions = [region for region in structures.regions if region.name == name]
        if not regions:
            known = ", ".join(dict.fromkeys(region.name for region in structures.regions))
            raise FormatError(f"{structures.path} has no ROI {name} with contours, only {known}", hint="choose another")
        masks = [roi_mask(region, grid) for region in regions]
        for notice in (notice for mask in masks for notice in mask.notices):
            on_notice(notice)
        united = reduce(np.logical_or, (mask.mask for mask in masks))
        yield Volume(united.view(np.uint8)[None], grid.affine)
