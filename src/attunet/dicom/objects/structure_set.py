"""RT structure sets (RTSTRUCT): masks as closed contours in the slices of the source images.

Contours run along the edges of pixels, so that every reader that asks whether the centre of a pixel is inside gets the
mask back, voxel by voxel. Source: PS3.3, A.19 (RT Structure Set), C.8.8.5, C.8.8.6, C.8.8.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import ceil, log10
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from attunet.config import Code
from attunet.data.formats.dicom.contours import Contour, contours_of
from attunet.data.geometry import LPS_TO_RAS
from attunet.dicom.objects.identity import Algorithm, ObjectIdentity, new_object
from attunet.dicom.objects.segmentation_object import CodedSegment
from attunet.dicom.objects.source import SourceImages

__all__ = ["make_structure_set"]

CONTOUR_DATA = Tag("ContourData")
STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, the retired class by which PS3.3, C.8.8.5 has a study referred to."""


def make_structure_set(
    source: SourceImages,
    mask: npt.NDArray[Any],
    segments: Sequence[CodedSegment],
    identity: ObjectIdentity,
    algorithm: Algorithm,
) -> Dataset:
    """A structure set without patient and study; a label without a voxel is a structure without contours.

    Args:
        source: the images, which say where they are, and whose slices the contours lie in, also where they are sheared.
        mask: label values (I, J, K) on the source's grid.
        segments: the structures, and the values of the mask that belong to them.
        identity: UIDs and numbers.
        algorithm: what made it.
    Returns: the object.
    """
    now = datetime.now()
    # implicit VR, because contours may be longer than 64 KiB of text
    dataset = new_object(RTStructureSetStorage, ImplicitVRLittleEndian, "RTSTRUCT", identity, algorithm)
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = "attunet"
    dataset.StructureSetName = algorithm.name
    dataset.StructureSetDescription = f"manifest sha256 {algorithm.manifest}"
    dataset.StructureSetDate, dataset.StructureSetTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    dataset.FrameOfReferenceUID = source.references[0].FrameOfReferenceUID
    dataset.PositionReferenceIndicator = source.references[0].PositionReferenceIndicator
    dataset.ReferencedFrameOfReferenceSequence = [_referenced(source)]
    dataset.StructureSetROISequence = [_structure(segment, source, algorithm) for segment in segments]
    dataset.ROIContourSequence = _drawn(segments, mask, source)
    dataset.RTROIObservationsSequence = [_observed(segment) for segment in segments]
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _referenced(source: SourceImages) -> Dataset:
    first = source.references[0]
    images, study, frame = Dataset(), Dataset(), Dataset()
    images.SeriesInstanceUID = first.SeriesInstanceUID
    images.ContourImageSequence = [source.image_of(plane) for plane in range(source.series.shape[2])]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_COMPONENT, first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [images]
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _structure(segment: CodedSegment, source: SourceImages, algorithm: Algorithm) -> Dataset:
    item = Dataset()
    item.ROINumber = segment.number
    item.ReferencedFrameOfReferenceUID = source.references[0].FrameOfReferenceUID
    item.ROIName = segment.label[:64]
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIGenerationDescription = f"{algorithm.name}, attunet {algorithm.version}"[:64]
    return item


def _observed(segment: CodedSegment) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = segment.number
    item.RTROIInterpretedType = ""
    item.ROIInterpreter = ""
    item.RTROIIdentificationCodeSequence = [_coded(segment.code.type)]
    return item


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def _drawn(segments: Sequence[CodedSegment], mask: npt.NDArray[Any], source: SourceImages) -> list[Dataset]:
    """The structures with their contours in every slice that they reach."""
    drawn = []
    for segment in segments:
        item = Dataset()
        item.ReferencedROINumber = segment.number
        if segment.code.color is not None:
            item.ROIDisplayColor = list(segment.code.color)
        drawn.append(item)
    contours: list[list[Dataset]] = [[] for _ in segments]
    for plane in range(mask.shape[2]):
        pixels = np.ascontiguousarray(mask[..., plane])
        here = set(np.unique(pixels).tolist())
        image = source.image_of(plane)
        for segment, found in zip(segments, contours, strict=True):
            if here.intersection(segment.values):
                outlines = contours_of(np.isin(pixels, segment.values))
                found += [
                    _contour(number, plane, outline, source, image)
                    for number, outline in enumerate(outlines, start=len(found) + 1)
                ]
    for item, found in zip(drawn, contours, strict=True):
        if found:
            item.ContourSequence = found
    return drawn


def _contour(number: int, plane: int, contour: Contour, source: SourceImages, image: Dataset) -> Dataset:
    """One closed contour (N, 2) of a slice, in LPS mm, which refers to its image."""
    corners = np.column_stack([contour, np.full(len(contour), plane), np.ones(len(contour))])
    points = (corners @ (LPS_TO_RAS @ source.series.affine).T)[:, :3]
    item = Dataset()
    item.ContourImageSequence = [image]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points)
    item.ContourNumber = number
    digits = max(0, 4 - ceil(log10(min(source.grid.pixel_spacing))))  # a ten-thousandth of a pixel, or finer
    text = "\\".join(f"{value:.{digits}f}" for value in points.ravel()).encode()
    # In implicit VR nothing says that these bytes are decimals, which pydicom would turn into numbers one by one.
    item.add(DataElement(CONTOUR_DATA, "OB", text + b" " * (len(text) % 2)))
    return item
