"""DICOM objects made for tests: plain ones, which tests then edit, re-encode and damage."""

from __future__ import annotations

import math
import random
import struct
from copy import deepcopy
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)
from pydicom.uid import generate_uid as new_uid

__all__ = [
    "SYNTAXES",
    "encode",
    "make_enhanced",
    "make_mosaic",
    "make_picture",
    "make_series",
    "new_uid",
    "sample",
    "save_series",
]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
ENHANCED = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}
PICTURES = {"DX": DigitalXRayImageStorageForPresentation, "US": UltrasoundMultiFrameImageStorage}
NAME, ID, DATE = "Doe^Jane", "PATIENT-4711", "19700203"
"""What must never be found in anything that is written."""


def sample(shape=(12, 10, 6), seed=0, low=-1000, high=1500):
    """An array (I, J, K) of stored values, smooth but for a little noise, with both ends."""
    random = np.random.default_rng(seed)
    ramp = np.sum(np.meshgrid(*[np.linspace(0, 1, size) for size in shape], indexing="ij"), axis=0) / 3
    noisy = low + (high - 1 - low) * np.clip(ramp + random.normal(0, 0.02, shape), 0, 1)
    noisy.flat[:2] = low, high - 1
    return noisy.round().astype(np.int16 if high <= 2**15 else np.int32)


def make_series(array, affine=None, *, modality="CT", slope=1, intercept=0, uid=None, study=None, **tags):
    """Data sets of a series, slice k of the array (I, J, K) as the k-th, with an affine from voxels to RAS+.

    `tags` are values of all data sets by keyword; the columns of the affine are along rows, columns and slices.
    """
    lps, row, column = _axes(affine)
    uid, study = uid or new_uid(), study or new_uid()
    found = []
    for index in range(array.shape[2]):
        ds = _object(CLASSES[modality], modality, uid, study)
        ds.FrameOfReferenceUID, ds.InstanceNumber = new_uid(entropy_srcs=[uid]), index + 1
        ds.ImagePositionPatient = [float(f"{value:.6f}") for value in lps[:3] @ [0, 0, index, 1]]
        ds.ImageOrientationPatient = [float(f"{value:.9f}") for value in (*row, *column)]
        ds.PixelSpacing = [float(np.linalg.norm(lps[:3, axis])) for axis in (1, 0)]
        ds.SliceThickness = 9.0  # never the spacing
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        set_pixels(ds, array[:, :, index].T[None])
        _set(ds, tags)
        found.append(ds)
    return found


def make_enhanced(array, affine=None, *, modality="CT", order=None, slopes=None, intercept=0, marks=None, **tags):
    """An enhanced object of the slices of an array (I, J, K), as frames in an order of slices.

    `slopes` are the rescale slopes of slices, `marks` functions that add functional groups to the item of a frame.
    """
    lps, row, column = _axes(affine)
    order = list(range(array.shape[2])) if order is None else list(order)
    ds = _object(ENHANCED[modality], modality, new_uid(), new_uid())
    ds.FrameOfReferenceUID, ds.InstanceNumber = new_uid(), 1
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[float(f"{v:.9f}") for v in (*row, *column)])]
    spacing = [float(np.linalg.norm(lps[:3, axis])) for axis in (1, 0)]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=spacing, SliceThickness=9.0)]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = []
    for frame, index in enumerate(order):
        item = Dataset()
        place = [float(f"{value:.6f}") for value in lps[:3] @ [0, 0, index, 1]]
        item.PlanePositionSequence = [_item(ImagePositionPatient=place)]
        slope = 1 if slopes is None else slopes[index]
        values = _item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
        item.PixelValueTransformationSequence = [values]
        item.FrameContentSequence = [_item(DimensionIndexValues=[1, index + 1])]
        if marks is not None:
            marks(item, frame)
        ds.PerFrameFunctionalGroupsSequence.append(item)
    set_pixels(ds, np.stack([array[:, :, index].T for index in order]))
    _set(ds, tags)
    return ds


def make_picture(frames, *, modality="DX", **tags):
    """An object without a position: frames (frames, rows, columns) or, in colours, (frames, rows, columns, 3)."""
    ds = _object(PICTURES[modality], modality, new_uid(), new_uid())
    ds.InstanceNumber = 1
    set_pixels(ds, frames)
    _set(ds, tags)
    return ds


def make_mosaic(array, affine, **tags):
    """A mosaic of Siemens of the slices of an array (I, J, K); the affine is that of the image that holds them.

    Its slices are along the third axis of the patient, at the distance of the affine.
    """
    columns, rows, count = array.shape
    across = math.isqrt(count - 1) + 1
    image = np.zeros((columns * across, rows * across), array.dtype)
    for index in range(count):
        row, column = divmod(index, across)
        image[columns * column :, rows * row :][:columns, :rows] = array[:, :, index]
    (ds,) = make_series(image[:, :, None], affine, modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    ds.SpacingBetweenSlices = float(affine[2, 2])
    block = ds.private_block(0x29, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", _csa(NumberOfImagesInMosaic=[count], SliceNormalVector=[0.0, 0.0, 1.0]))
    return _set(ds, tags)


def _csa(**elements):
    """A header in Siemens' format SV10."""
    held = b""
    for name, values in elements.items():
        items = b""
        for value in values:
            text = str(value).encode().ljust(12, b"\0")
            items += struct.pack("<4i", len(text), len(text), 77, len(text)) + text
        kind = b"FD" if isinstance(values[0], float) else b"US"
        held += struct.pack("<64si4siii", name.encode(), len(values), kind, 0, len(values), 77) + items
    return b"SV10" + b"\4\3\2\1" + struct.pack("<II", len(elements), 77) + held


def set_pixels(ds, frames):
    """Store frames (frames, rows, columns), or (frames, rows, columns, 3), of integers."""
    bits = frames.dtype.itemsize * 8
    ds.Rows, ds.Columns = frames.shape[1:3]
    ds.SamplesPerPixel = 1 if frames.ndim == 3 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if frames.ndim == 3 else "RGB"
    if frames.ndim == 4:
        ds.PlanarConfiguration = 0
    if len(frames) > 1:
        ds.NumberOfFrames = len(frames)
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(frames.dtype.kind == "i")
    held = np.ascontiguousarray(frames).tobytes()
    ds.PixelData = held + bytes(len(held) % 2)
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"


def save_series(datasets, folder: Path, *, suffix=".dcm", seed=1) -> Path:
    """Write each data set into a file, in an order of names that says nothing about positions."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index:04d}{suffix}" for index in range(len(datasets))]
    random.Random(seed).shuffle(names)
    for name, ds in zip(names, datasets, strict=True):
        ds.save_as(folder / name, enforce_file_format=True)
    return folder


def encode(ds, syntax):
    """The same object in another transfer syntax, a name of `SYNTAXES`; lossy ones change the values."""
    made, (uid, encoder) = deepcopy(ds), SYNTAXES[syntax]
    shape = (made.get("NumberOfFrames", 1), made.Rows, made.Columns, made.SamplesPerPixel)
    kind = np.dtype(f"{'i' if made.PixelRepresentation else 'u'}{made.BitsAllocated // 8}")
    held = made.PixelData
    frames = np.frombuffer(held[: np.prod(shape) * kind.itemsize], kind).reshape(shape)
    if isinstance(encoder, str):
        made.compress(uid, generate_instance_uid=False, **({"jls_error": 2} if encoder == "near" else {}))
        return made
    made.file_meta.TransferSyntaxUID = uid
    if encoder is None:
        if uid == ExplicitVRBigEndian:
            words = np.frombuffer(held, "u2")
            made.PixelData = held if made["PixelData"].VR == "OB" else words.byteswap().tobytes()
        return made
    images = [frame[..., 0] if made.SamplesPerPixel == 1 else frame for frame in frames]
    made.PixelData = encapsulate([encoder(np.ascontiguousarray(image), made.BitsStored) for image in images])
    made["PixelData"].VR = "OB"
    return made


def _as_unsigned(image):
    return image.view(f"u{image.dtype.itemsize}")


SYNTAXES = {
    "implicit": (ImplicitVRLittleEndian, None),
    "explicit": (ExplicitVRLittleEndian, None),
    "big endian": (ExplicitVRBigEndian, None),
    "deflated": (DeflatedExplicitVRLittleEndian, None),
    "RLE": (RLELossless, "rle"),
    "JPEG-LS": (JPEGLSLossless, "jls"),
    "JPEG-LS near-lossless": (JPEGLSNearLossless, "near"),
    "JPEG lossless": (
        JPEGLosslessSV1,
        lambda image, bits: imagecodecs.ljpeg_encode(_as_unsigned(image), bitspersample=bits),
    ),
    "JPEG 2000": (
        JPEG2000Lossless,
        lambda image, bits: imagecodecs.jpeg2k_encode(image, level=0, codecformat="j2k", bitspersample=bits),
    ),
    "HTJ2K": (HTJ2KLossless, lambda image, bits: imagecodecs.htj2k_encode(image, level=None)),
    "JPEG baseline": (JPEGBaseline8Bit, lambda image, bits: imagecodecs.jpeg8_encode(image, level=95)),
    "JPEG 12-bit": (
        JPEGExtended12Bit,
        lambda image, bits: imagecodecs.jpeg8_encode(image, level=100, bitspersample=12),
    ),
}
"""UID and encoder of each transfer syntax; None where values are stored as they are."""


def _object(sop_class, modality, uid, study):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, uid
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.StudyDate = NAME, ID, DATE, DATE
    ds.StudyTime, ds.AccessionNumber, ds.StudyID = "120000", "4712", "4713"
    ds.Modality, ds.SeriesNumber, ds.SeriesDescription = modality, 3, "made for a test"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return ds


def _axes(affine):
    lps = LPS @ (np.diag([0.5, 0.75, 2.0, 1.0]) if affine is None else np.asarray(affine, float))
    row, column = (lps[:3, axis] / np.linalg.norm(lps[:3, axis]) for axis in (0, 1))
    return lps, row, column


def _item(**values):
    return _set(Dataset(), values)


def _set(ds, values):
    for name, value in values.items():
        setattr(ds, name, value)
    return ds
