"""Colour pictures of a result as a secondary capture series, for viewers that show neither SEG nor parametric maps.

Source: PS3.3, A.8.1 (Secondary Capture Image), C.8.6; with the place of each picture, as a standard extended class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
from matplotlib import colormaps
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pydicom.valuerep import format_number_as_ds

from attunet.data.geometry import LPS_TO_RAS
from attunet.dicom.objects.identity import Algorithm, ObjectIdentity, new_object, stable_uid
from attunet.dicom.objects.segmentation_object import CodedSegment
from attunet.dicom.objects.source import SourceImages
from attunet.errors import FormatError
from attunet.report.panels import ATTENTION_COLORS
from attunet.report.views import window

__all__ = ["Pictures", "attention_pictures", "check_slice_picture", "make_slice_picture", "mask_pictures"]

Pictures = npt.NDArray[np.uint8]
"""(slices, rows, columns, 3)."""

OPACITY = 0.5
"""Share of a label's colour where it covers the image, and of that of an attention coefficient of 1."""

COLORS = 256
CLOSE_MM = 1e-2


def mask_pictures(
    image: npt.NDArray[Any], mask: npt.NDArray[Any], segments: Sequence[CodedSegment], modality: str
) -> Pictures:
    """The image in grey with every label in its colour.

    Args:
        image: (C, I, J, K), of which the first channel is shown.
        mask: label values (I, J, K).
        segments: what they mean, and their colours; later ones are painted over earlier ones.
        modality: "ct" shows the abdominal window, anything else the percentiles of the image.
    Returns: the pictures.
    """
    pictures = _grey(image, modality)
    frames = mask.transpose(2, 1, 0)
    for segment in segments:
        inside = np.isin(frames, segment.values)
        color = np.array(segment.code.color or (255, 255, 255), np.float32)
        pictures[inside] = (1 - OPACITY) * pictures[inside] + OPACITY * color
    return pictures


def attention_pictures(image: npt.NDArray[Any], attention: npt.NDArray[Any], modality: str) -> Pictures:
    """The image in grey with the coefficients of a gate in colours, the less transparent the higher.

    Args:
        image: as of `mask_pictures`.
        attention: (I, J, K) in [0, 1].
        modality: as of `mask_pictures`.
    Returns: the pictures.
    """
    pictures = _grey(image, modality)
    palette = (255 * colormaps[ATTENTION_COLORS](np.linspace(0, 1, COLORS))[:, :3]).astype(np.float32)
    for picture, alpha in zip(pictures, attention.transpose(2, 1, 0), strict=True):
        bounded = np.clip(alpha, 0, 1).astype(np.float32)
        share = np.float32(OPACITY) * bounded[..., None]
        picture[:] = picture + share * (palette[np.rint(bounded * (COLORS - 1)).astype(np.intp)] - picture)
    return pictures


def make_slice_picture(
    source: SourceImages, plane: int, picture: npt.NDArray[np.uint8], identity: ObjectIdentity, algorithm: Algorithm
) -> Dataset:
    """The object of one slice, without patient and study, at the place of its image, also where slices are sheared.

    Args:
        source: the images.
        plane: which slice.
        picture: (rows, columns, 3).
        identity: UIDs and numbers of the series.
        algorithm: what made it.
    Returns: the object.
    """
    own = replace(identity, instance_uid=stable_uid("slice", identity.instance_uid, str(plane)))
    dataset = new_object(SecondaryCaptureImageStorage, ExplicitVRLittleEndian, "OT", own, algorithm)
    dataset.InstanceNumber = plane + 1
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.BurnedInAnnotation = "NO"
    dataset.PatientOrientation = source.references[0].get("PatientOrientation", "")
    dataset.Laterality = ""
    dataset.SourceImageSequence = [source.image_of(plane)]
    if source.grid.placed:
        dataset.FrameOfReferenceUID = source.references[0].FrameOfReferenceUID
        dataset.PositionReferenceIndicator = source.references[0].PositionReferenceIndicator
        dataset.ImagePositionPatient = [format_number_as_ds(value) for value in _position(source, plane)]
        dataset.ImageOrientationPatient = [format_number_as_ds(value) for value in source.grid.orientation]
        dataset.PixelSpacing = [format_number_as_ds(value) for value in source.grid.pixel_spacing]
        dataset.SliceThickness = format_number_as_ds(source.grid.step)
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.Rows, dataset.Columns = picture.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    pixels = picture.tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    return dataset


def check_slice_picture(path: Path, plane: int, picture: npt.NDArray[np.uint8], source: SourceImages) -> None:
    """Read a picture with SimpleITK, and compare it.

    Args:
        path: the file.
        plane: which slice it is.
        picture: what it should show, (rows, columns, 3).
        source: the images, one of which it should be at the place of.
    Raises: FormatError when the picture, its place or its spacing differs.
    """
    stored = SimpleITK.ReadImage(str(path))
    same = np.array_equal(SimpleITK.GetArrayFromImage(stored)[0], picture)
    if source.grid.placed:
        same &= np.allclose(stored.GetOrigin(), _position(source, plane), atol=CLOSE_MM)
        same &= np.allclose(stored.GetSpacing()[:2], source.grid.pixel_spacing[::-1], rtol=1e-4)
    if not same:
        raise FormatError(
            f"{path} was read back and differs from the result in slice {plane}; the series was not written",
            hint="leave out dicom-overlay, and report this",
        )


def _grey(image: npt.NDArray[Any], modality: str) -> Pictures:
    channel = image[0]
    low, high = window(image[:1], modality)
    shown = np.empty((*channel.shape[::-1], 3), np.uint8)
    for plane, picture in enumerate(shown):
        scaled = (np.nan_to_num(channel[..., plane].T.astype(np.float32)) - low) / (high - low)
        picture[:] = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)[..., None]
    return shown


def _position(source: SourceImages, plane: int) -> tuple[float, float, float]:
    x, y, z, _ = LPS_TO_RAS @ source.series.affine @ (0, 0, plane, 1)
    return float(x), float(y), float(z)
