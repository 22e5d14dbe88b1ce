"""DICOM series made for tests: a plain one, which tests then edit, re-encode and damage."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, PositronEmissionTomographyImageStorage
from pydicom.uid import generate_uid as new_uid

__all__ = ["make_series", "new_uid", "sample", "save_series"]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
NAME, ID, DATE = "Doe^Jane", "PATIENT-4711", "19700203"
"""What must never be found in anything that is written."""


def sample(shape=(12, 10, 6), seed=0, low=-1000, high=1500):
    """An array (I, J, K) of stored values."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.int16)


def make_series(array, affine=None, *, modality="CT", slope=1, intercept=0, uid=None, study=None, **tags):
    """Data sets of a series, slice k of the array (I, J, K) as the k-th, with an affine from voxels to RAS+.

    `tags` are values of all data sets by keyword; the columns of the affine are along rows, columns and slices.
    """
    affine = np.diag([0.5, 0.75, 2.0, 1.0]) if affine is None else np.asarray(affine, float)
    lps, uid, study, frame = LPS @ affine, uid or new_uid(), study or new_uid(), new_uid()
    row, column = (lps[:3, axis] / np.linalg.norm(lps[:3, axis]) for axis in (0, 1))
    found = []
    for index in range(array.shape[2]):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CLASSES[modality]
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, uid, frame
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.StudyDate = NAME, ID, DATE, DATE
        ds.StudyTime, ds.AccessionNumber, ds.StudyID = "120000", "4712", "4713"
        ds.Modality, ds.SeriesNumber, ds.SeriesDescription = modality, 3, "made for a test"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.InstanceNumber = index + 1
        ds.ImagePositionPatient = [float(f"{value:.6f}") for value in lps[:3] @ [0, 0, index, 1]]
        ds.ImageOrientationPatient = [float(f"{value:.9f}") for value in (*row, *column)]
        ds.PixelSpacing = [float(np.linalg.norm(lps[:3, axis])) for axis in (1, 0)]
        ds.SliceThickness = 9.0  # never the spacing
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        _set_pixels(ds, array[:, :, index].T)
        for name, value in tags.items():
            setattr(ds, name, value)
        found.append(ds)
    return found


def _set_pixels(ds, image):
    """Store an image (rows, columns) of integers."""
    bits = image.dtype.itemsize * 8
    ds.Rows, ds.Columns = image.shape
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(image.dtype.kind == "i")
    ds.PixelData = np.ascontiguousarray(image).tobytes()


def save_series(datasets, folder: Path, *, suffix=".dcm", seed=1) -> Path:
    """Write each data set into a file, in an order of names that says nothing about positions."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index:04d}{suffix}" for index in range(len(datasets))]
    random.Random(seed).shuffle(names)
    for name, ds in zip(names, datasets, strict=True):
        ds.save_as(folder / name, enforce_file_format=True)
    return folder
