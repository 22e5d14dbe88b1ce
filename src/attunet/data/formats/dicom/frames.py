"""Files of several images: enhanced objects, whose frames say where they are, and older ones, whose frames do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from attunet.data.formats.dicom.elements import (
    Vector,
    first_item,
    number_of,
    text_of,
    texts_of,
    values_of,
    vector_of,
    whole_of,
)
from attunet.data.formats.dicom.slices import StoredSlice
from attunet.data.formats.limits import AGAIN
from attunet.errors import FormatError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["FRAME_TAGS", "slices_of_frames"]

FRAME_TAGS = (
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence"),
    *("SliceVector", "NumberOfSlices", "DetectorInformationSequence"),
)
MARKS_OF_FRAMES = {
    "b-value": ("MRDiffusionSequence", "DiffusionBValue"),
    "temporal position": ("FrameContentSequence", "TemporalPositionIndex"),
    "echo time": ("MREchoSequence", "EffectiveEchoTime"),
    "trigger time": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "acquisition": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "stack": ("FrameContentSequence", "StackID"),
}
"""Functional group and element of each mark of a frame."""
FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence", "XAXRFFrameTypeSequence")
PLACES = (0x00209057, 0x00200032, 0x00209113, 0x00209056)
"""Dimensions that count the places of frames: in-stack position, image position, its functional group, stack."""
LONGEST = 10**6
"""Frames of a file at most."""


def slices_of_frames(dataset: Dataset, whole: StoredSlice) -> tuple[tuple[StoredSlice, ...], tuple[str, ...]]:
    """The images of a file as slices.

    Args:
        dataset: the file's elements.
        whole: its first image, as the elements for all of its images describe it.
    Returns: the slices, without positions where the file gives none, and what was guessed, in sentences.
    Raises: FormatError when the file describes another number of frames than it has.
    """
    count = whole.layout.frames
    items = values_of(dataset, "PerFrameFunctionalGroupsSequence")
    if not 0 < count <= LONGEST or (items and len(items) != count):
        raise FormatError(f"{whole.path.name} declares {count} frames and describes {len(items)}", hint=AGAIN)
    if items:
        shared = first_item(dataset, "SharedFunctionalGroupsSequence")
        varying = _varying_dimensions(dataset)
        return tuple(_functional(item, shared, varying, whole, index) for index, item in enumerate(items)), ()
    if count == 1:
        return (whole,), ()
    if text_of(dataset, "Modality") == "NM":
        return _of_reconstruction(dataset, whole)
    return tuple(replace(whole, frame=index, position=None) for index in range(count)), ()


def _functional(
    item: Dataset, shared: Dataset | None, varying: Sequence[int], whole: StoredSlice, index: int
) -> StoredSlice:
    """A frame of an enhanced object, by its own functional groups and those of all frames."""

    def group(name: str) -> Dataset | None:
        own = first_item(item, name)
        return own if own is not None or shared is None else first_item(shared, name)

    measures, values = group("PixelMeasuresSequence"), group("PixelValueTransformationSequence")
    position, orientation = group("PlanePositionSequence"), group("PlaneOrientationSequence")
    slope = None if values is None else number_of(values, "RescaleSlope")
    intercept = None if values is None else number_of(values, "RescaleIntercept")
    told = {name: _mark(group(sequence), element) for name, (sequence, element) in MARKS_OF_FRAMES.items()}
    marks = {"frame of reference": whole.marks["frame of reference"], **told}
    diffusion = group("MRDiffusionSequence")
    gradient = None if diffusion is None else first_item(diffusion, "DiffusionGradientDirectionSequence")
    marks["gradient direction"] = _mark(gradient, "DiffusionGradientOrientation")
    marks["image type"] = next((_mark(found, "FrameType") for name in FRAME_TYPES if (found := group(name))), ())
    content = group("FrameContentSequence")
    indexes = () if content is None else values_of(content, "DimensionIndexValues")
    marks["dimensions"] = tuple(str(indexes[at]) for at in varying if at < len(indexes))
    return replace(
        whole,
        frame=index,
        position=whole.position if position is None else vector_of(position, "ImagePositionPatient", 3),
        orientation=whole.orientation if orientation is None else vector_of(orientation, "ImageOrientationPatient", 6),
        spacing=whole.spacing if measures is None else vector_of(measures, "PixelSpacing", 2),
        thickness=whole.thickness if measures is None else number_of(measures, "SliceThickness"),
        slope=whole.slope if slope is None else slope,
        intercept=whole.intercept if intercept is None else intercept,
        rescale=whole.rescale or slope is not None or intercept is not None,
        marks=marks,
    )


def _mark(group: Dataset | None, element: str) -> tuple[str, ...]:
    return () if group is None else texts_of(group, element)


def _varying_dimensions(dataset: Dataset) -> list[int]:
    """The dimensions of an enhanced object that do not count places."""
    pointers = [item.get("DimensionIndexPointer") for item in values_of(dataset, "DimensionIndexSequence")]
    return [index for index, pointer in enumerate(pointers) if pointer is not None and int(pointer) not in PLACES]


def _of_reconstruction(dataset: Dataset, whole: StoredSlice) -> tuple[tuple[StoredSlice, ...], tuple[str, ...]]:
    """The frames of a nuclear medicine volume: numbered slices at one distance along the normal (PS3.3 C.8.4.15)."""
    detector = first_item(dataset, "DetectorInformationSequence") or dataset
    position = vector_of(detector, "ImagePositionPatient", 3) or whole.position
    orientation = vector_of(detector, "ImageOrientationPatient", 6) or whole.orientation
    numbers = [int(value) for value in values_of(dataset, "SliceVector")]
    count = whole.layout.frames
    if not numbers and whole_of(dataset, "NumberOfSlices") == count:
        numbers = list(range(1, count + 1))
    step, notices = number_of(dataset, "SpacingBetweenSlices"), tuple[str, ...]()
    if not step and (step := whole.thickness):
        notices = ("its slices say no distance; their thickness is taken",)
    if position is None or orientation is None or len(numbers) != count or not step:
        return tuple(replace(whole, frame=index, position=None) for index in range(count)), ()
    normal = np.cross(*np.reshape(orientation, (2, 3)))
    places: list[Vector] = [tuple(map(float, np.array(position) + normal * step * (number - 1))) for number in numbers]
    return tuple(
        replace(whole, frame=index, position=place, orientation=orientation) for index, place in enumerate(places)
    ), notices
