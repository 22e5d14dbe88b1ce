"""Segmentation objects (SEG): masks as BINARY or LABELMAP segments with coded names, probabilities as FRACTIONAL ones.

Source: PS3.3, A.51 (Segmentation), A.51.4 (Label Map Segmentation), C.8.20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.valuerep import format_number_as_ds

from attunet.config import Code, SegmentCode
from attunet.dicom.objects.grid import ObjectGrid
from attunet.dicom.objects.identity import Algorithm, ObjectIdentity, stable_uid
from attunet.dicom.objects.source import SourceImages
from attunet.errors import ConfigError

__all__ = [
    "CodedSegment",
    "SegmentKind",
    "as_segments",
    "finish_multi_frame",
    "identify_algorithm",
    "make_segmentation",
    "plane_arguments",
    "segment_frames",
    "tracking_uid",
]

SegmentKind = Literal["BINARY", "LABELMAP", "FRACTIONAL"]

MOST_FRACTION = 255
"""The stored value of a probability of 1."""

Masks = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class CodedSegment:
    """One segment.

    Args:
        number: of the segment in its object, from 1.
        label: name of the label or region.
        code: what it is.
        values: the values of the mask that belong to it.
    """

    number: int
    label: str
    code: SegmentCode
    values: tuple[int, ...]


def as_segments(
    labels: Mapping[str, int],
    regions: Mapping[str, tuple[int, ...]],
    names: Mapping[str, SegmentCode],
    kind: SegmentKind,
) -> tuple[CodedSegment, ...]:
    """The segments of a result.

    Args:
        labels: label to value, background first.
        regions: overlapping targets to the values that they unite; empty for none.
        names: label to codes.
        kind: LABELMAP segments have the number of their value, others are numbered in the order of the labels.
    Returns: the segments in the order of their numbers.
    Raises: ConfigError when the kind cannot hold the labels.
    """
    united = regions or {name: (value,) for name, value in list(labels.items())[1:]}
    if kind != "LABELMAP":
        return tuple(
            CodedSegment(at, name, names[name], values) for at, (name, values) in enumerate(united.items(), start=1)
        )
    if regions:
        raise ConfigError(
            f"a LABELMAP holds no overlapping regions, but the model has {', '.join(regions)}", hint="write dicom-seg"
        )
    ordered = sorted((values[0], name) for name, values in united.items())
    if ordered[0][0] < 1 or ordered[-1][0] >= 2**16:
        raise ConfigError(
            f"a LABELMAP holds the values 1 to 65535, but {ordered[0][1]} is {ordered[0][0]} and {ordered[-1][1]} is "
            f"{ordered[-1][0]}",
            hint="write dicom-seg",
        )
    return tuple(CodedSegment(value, name, names[name], (value,)) for value, name in ordered)


def segment_frames(mask: npt.NDArray[Any], segments: Sequence[CodedSegment], grid: ObjectGrid) -> Masks:
    """The frames of a mask, as they are written.

    Args:
        mask: label values (I, J, K) on the source's grid.
        segments: what its values mean.
        grid: of the object.
    Returns: segment numbers (slices, rows, columns) where no value has two segments, else (…, segments) of 0 and 1.
    """
    planes = mask.transpose(2, 1, 0)
    known = np.array(sorted({value for segment in segments for value in segment.values}))
    overlapping = sum(len(segment.values) for segment in segments) > len(known)
    width, most = ((len(segments),), 1) if overlapping else ((), segments[-1].number)
    table = np.zeros((len(known) + 1, *width), np.min_scalar_type(most))  # a row for each value; the last of no segment
    for at, segment in enumerate(segments):
        rows = np.searchsorted(known, segment.values)
        if overlapping:
            table[rows, at] = 1
        else:
            table[rows] = segment.number
    numbers = np.empty((*planes.shape, *width), table.dtype)
    for plane, found in zip(planes, numbers, strict=True):
        row = np.searchsorted(known, plane)
        row[known[np.minimum(row, len(known) - 1)] != plane] = len(known)
        found[...] = table[row]
    return grid.moved(numbers)


def make_segmentation(
    source: SourceImages,
    pixels: npt.NDArray[Any],
    segments: Sequence[CodedSegment],
    kind: SegmentKind,
    identity: ObjectIdentity,
    algorithm: Algorithm,
) -> Dataset:
    """A segmentation object without patient and study.

    A result without any voxel is one empty frame of each segment: the standard asks for a frame.

    Args:
        source: the images that it was made from.
        pixels: `segment_frames`, or for FRACTIONAL probabilities (slices, rows, columns, segments) in [0, 1].
        segments: what they mean.
        kind: how they are stored.
        identity: UIDs and numbers.
        algorithm: what made it.
    Returns: the object.
    """
    empty = not pixels.any()
    frames = pixels[:1] if empty else pixels
    dataset = Segmentation(
        source_images=source.references,
        pixel_array=frames,
        segmentation_type=kind,
        segment_descriptions=[_described(segment, identity, algorithm) for segment in segments],
        max_fractional_value=MOST_FRACTION,
        content_label=f"{kind}_SEG",
        omit_empty_frames=not empty,
        specific_character_set="ISO_IR 192",
        **identity.arguments(algorithm),
        **plane_arguments(source, len(frames)),
    )
    finish_multi_frame(dataset, source, identity)
    return dataset


def finish_multi_frame(dataset: Dataset, source: SourceImages, identity: ObjectIdentity) -> None:
    """State the true distance of slices, which tags of sources get wrong, and make internal UIDs stable.

    Args:
        dataset: the object, which is changed.
        source: the images that it was made from.
        identity: its UIDs.
    """
    if source.grid.placed:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SliceThickness = measures.SpacingBetweenSlices = format_number_as_ds(source.grid.step)
    else:
        dataset.PatientOrientation = source.references[0].get("PatientOrientation", "")
    uid = stable_uid("dimensions", identity.instance_uid)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def plane_arguments(source: SourceImages, planes: int) -> dict[str, Any]:
    """The places of the first planes of the source's grid, as highdicom takes them; none where it copies them."""
    grid = source.grid
    if not grid.placed or (grid.same and not source.frames and planes == grid.shape[2]):
        return {}
    patient = hd.CoordinateSystemNames.PATIENT
    return {
        "plane_orientation": hd.PlaneOrientationSequence(patient, grid.orientation),
        "plane_positions": [hd.PlanePositionSequence(patient, grid.position(plane)) for plane in range(planes)],
        "pixel_measures": hd.PixelMeasuresSequence(
            pixel_spacing=grid.pixel_spacing, slice_thickness=grid.step, spacing_between_slices=grid.step
        ),
    }


def _described(segment: CodedSegment, identity: ObjectIdentity, algorithm: Algorithm) -> SegmentDescription:
    code = segment.code
    described = SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label[:64],
        segmented_property_category=_coded(code.category),
        segmented_property_type=_coded(code.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=identify_algorithm(algorithm),
        tracking_id=segment.label[:64],
        tracking_uid=tracking_uid(segment.label, identity.series_uid),
        anatomic_regions=None if code.region is None else [_coded(code.region)],
        display_color=None if code.color is None else CIELabColor.from_rgb(*code.color),
    )
    if code.modifier is not None:
        item = described.SegmentedPropertyTypeCodeSequence[0]
        item.SegmentedPropertyTypeModifierCodeSequence = [_coded(code.modifier)]
    if code.region_modifier is not None:
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_coded(code.region_modifier)]
    return described


def tracking_uid(label: str, series_uid: str) -> str:
    """The UID that a segment, of a segmentation in this series, and the measurements about it share."""
    return stable_uid("tracking", series_uid, label)


def identify_algorithm(algorithm: Algorithm) -> hd.AlgorithmIdentificationSequence:
    """What made a segment: the model, its version, and the hash of its manifest."""
    return hd.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.DCM.ArtificialIntelligence,
        version=algorithm.version,
        source="attunet",
        parameters={"manifest sha256": algorithm.manifest},
    )


def _coded(code: Code) -> hd.sr.CodedConcept:
    value, scheme, meaning = code
    return hd.sr.CodedConcept.from_code(DicomCode(value, scheme, meaning))
