"""DICOM objects that hold labels of a series: segmentations and structure sets, and the masks in them by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attunet.data.formats.dicom.data_sets import parsing, read_elements, read_whole
from attunet.data.formats.dicom.elements import text_of
from attunet.data.formats.dicom.kinds import objects_of
from attunet.data.formats.dicom.roi_masks import roi_mask
from attunet.data.formats.dicom.segment_masks import segment_masks
from attunet.data.formats.dicom.segmentation import SEGMENTATIONS, Segmentation, parse_segmentation
from attunet.data.formats.dicom.structure_set import STRUCTURE_SET, StructureSet, parse_structure_set
from attunet.data.volume import Volume
from attunet.errors import FormatError, GeometryError
from attunet.names import listed

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["LabelObject", "NoticeHook", "is_label_object", "read_label_object", "read_named_masks"]

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


def is_label_object(path: Path) -> bool:
    """Whether a DICOM file holds labels of a series. Raises: EngineError when pydicom is not installed."""
    return bool(objects_of([path]).labels)


def read_label_object(path: Path) -> LabelObject:
    """Read what an object holds, without its frames.

    Raises: FormatError when it is damaged or of another kind; EngineError when pydicom is not installed.
    """
    dataset = read_elements(path, ELEMENTS).dataset
    with parsing(path):
        return _described(_parsed(dataset, path))


def read_named_masks(
    path: Path, names: Sequence[str | None], grid: Volume | None = None, on_notice: NoticeHook = lambda _notice: None
) -> Iterator[Volume]:
    """Read masks of an object, one after the other.

    Args:
        path: the object.
        names: of segments or ROIs, in any letter case; those of one name are united. None: the only one.
        grid: the image that they belong to, or any volume on its grid; None: unknown, which only segmentations allow.
        on_notice: called with what is odd about a mask.
    Returns: for each name a volume of 0 and 1, on the grid of the image; see `segment_masks` for others.
    Raises: FormatError when there is no such name or the file is damaged, GeometryError when a mask cannot be placed.
    """
    dataset = read_whole(path)
    with parsing(path):
        parsed = _parsed(dataset, path)
    held = _described(parsed).names
    chosen = [_chosen(name, held, path) for name in names]
    masks = (
        segment_masks(parsed, dataset, chosen, grid)
        if isinstance(parsed, Segmentation)
        else _roi_masks(parsed, chosen, grid, on_notice)
    )
    for _ in names:
        with parsing(path):
            mask = next(masks)
        yield mask


def _chosen(name: str | None, held: Sequence[str], path: Path) -> str:
    """The name of a mask as it is written in its object. Raises: FormatError when there is none, or several."""
    found = [other for other in held if name == other] or [
        other for other in held if name is None or name.casefold() == other.casefold()
    ]
    if len(found) == 1:
        return found[0]
    wanted = "" if name is None else f" {name}"
    masks = f"the masks {listed(held)}" if held else "no mask"
    raise FormatError(
        f"{path} has no single mask{wanted}, but {masks}",
        hint="name one with --label-key, or in a CSV file as FILE#NAME",
    )


def _parsed(dataset: Dataset, path: Path) -> Segmentation | StructureSet:
    kind = text_of(dataset, "SOPClassUID")
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
    """The masks of ROIs. Raises: GeometryError as `roi_mask`, and without a grid."""
    if grid is None:
        raise GeometryError(
            f"{structures.path} holds contours, which have voxels only on the grid of an image",
            hint="give it as the label of the images that it was drawn on",
        )
    for name in names:
        masks = [roi_mask(region, grid) for region in structures.regions if region.name == name]
        for notice in (notice for mask in masks for notice in mask.notices):
            on_notice(notice)
        united = reduce(np.logical_or, (mask.mask for mask in masks))
        yield Volume(united.view(np.uint8)[None], grid.affine)
