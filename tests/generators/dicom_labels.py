"""DICOM labels made for tests: structure sets and segmentations of a series that `make_series` made."""

from __future__ import annotations

import numpy as np
from dicom_series import DATE, ID, NAME, new_uid
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, SegmentationStorage

from attunet.data.formats.dicom.contours import contours_of

__all__ = ["add_contour", "affine_of", "make_segmentation", "make_structure_set"]

LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"


def affine_of(series):
    """The affine (4, 4) of the data sets of a series, voxels to LPS mm."""
    first = series[0]
    row, column = np.reshape(np.array(first.ImageOrientationPatient, float), (2, 3))
    positions = np.array([ds.ImagePositionPatient for ds in series], float)
    step = (positions[-1] - positions[0]) / max(1, len(series) - 1)
    step = step if len(series) > 1 else np.cross(row, column)
    affine = np.eye(4)
    affine[:3] = np.stack([row * first.PixelSpacing[1], column * first.PixelSpacing[0], step, positions[0]], axis=1)
    return affine


def _object(series, sop_class, modality, **tags):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = series[0].StudyInstanceUID, new_uid()
    ds.FrameOfReferenceUID = series[0].FrameOfReferenceUID
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.StudyDate = NAME, ID, DATE, DATE
    ds.Modality = modality
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def make_structure_set(series, regions, **tags):
    """A structure set; `regions` is a list of name and mask (I, J, K), or None for an ROI that was not drawn."""
    ds = _object(series, RTStructureSetStorage, "RTSTRUCT", **tags)
    frame, study, referenced = Dataset(), Dataset(), Dataset()
    referenced.SeriesInstanceUID = series[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = [referenced]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = series[0].FrameOfReferenceUID, [study]
    ds.ReferencedFrameOfReferenceSequence = [frame]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, mask) in enumerate(regions, start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = series[0].FrameOfReferenceUID
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(drawn)
        for k in range(0 if mask is None else mask.shape[2]):
            for contour in contours_of(mask[:, :, k]):
                add_contour(ds, number, np.column_stack([contour, np.full(len(contour), k)]), affine_of(series))
    return ds


def add_contour(ds, number, voxels, affine, kind="CLOSED_PLANAR"):
    """Add a contour, given by points (N, 3) in voxels, to the ROI with a number."""
    item = Dataset()
    points = np.asarray(voxels, float) @ affine[:3, :3].T + affine[:3, 3]
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{value:.6f}" for value in points.ravel()]
    ds.ROIContourSequence[number - 1].ContourSequence.append(item)


def make_segmentation(series, segments, kind="BINARY", *, order=None, keep_empty=False, **tags):
    """A segmentation; `segments` is a list of name and mask (I, J, K), of which a label map takes the last in a voxel.

    Fractional masks hold 0 to 1. `order` shuffles the frames; frames without a voxel are left out.
    """
    ds = _object(series, LABELMAP if kind == "LABELMAP" else SegmentationStorage, "SEG", **tags)
    affine = affine_of(series)
    masks = {number: mask for number, (_, mask) in enumerate(segments, start=1)}
    if kind == "LABELMAP":
        label = np.zeros(segments[0][1].shape, np.uint8)
        for number, mask in masks.items():
            label[mask > 0] = number
        masks = {0: label}
    frames = [
        (number, k, mask[:, :, k])
        for number, mask in masks.items()
        for k in range(mask.shape[2])
        if keep_empty or mask[:, :, k].any()
    ]
    if order is not None:
        np.random.default_rng(order).shuffle(frames)
    ds.SegmentationType, ds.SegmentsOverlap = kind, "UNDEFINED"
    if kind == "FRACTIONAL":
        ds.MaximumFractionalValue, ds.SegmentationFractionalType = 200, "PROBABILITY"
    ds.SegmentSequence = []
    for number, (name, _) in enumerate(segments, start=1):
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel, item.SegmentAlgorithmType = number, name, "MANUAL"
        ds.SegmentSequence.append(item)
    referenced = Dataset()
    referenced.SeriesInstanceUID = series[0].SeriesInstanceUID
    ds.ReferencedSeriesSequence = [referenced]
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = series[0].ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = series[0].PixelSpacing, 7.0  # never the spacing
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], []
    for number, k, _ in frames:
        item, position, segment = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [f"{value:.6f}" for value in affine[:3] @ [0, 0, k, 1]]
        item.PlanePositionSequence = [position]
        if kind != "LABELMAP":
            segment.ReferencedSegmentNumber = number
            item.SegmentIdentificationSequence = [segment]
        ds.PerFrameFunctionalGroupsSequence.append(item)
    pixels = np.stack([frame.T for _, _, frame in frames])
    bits = 1 if kind == "BINARY" else 8
    ds.NumberOfFrames, ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    if kind == "FRACTIONAL":
        pixels = np.rint(pixels * 200)
    stored = np.packbits(pixels.ravel() > 0, bitorder="little") if bits == 1 else pixels.astype(np.uint8).ravel()
    ds.PixelData = stored.tobytes() + b"\0" * (stored.size % 2)
    return ds
