"""Headers of DICOM files: what identifies an image, where it lies in the patient, and how its pixels are stored.

Of a patient, nothing is read: only the elements in `TAGS` are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attunet.documents import open_regular
from attunet.errors import EngineError, FormatError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["DicomHeader", "PixelLayout", "StoredSlice", "Vector", "pydicom_for", "read_header"]

Vector = tuple[float, ...]
TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("Modality", "ImageType", "SeriesDescription", "SeriesNumber", "InstanceNumber"),
    *("AcquisitionNumber", "TriggerTime", "EchoNumbers", "EchoTime", "DiffusionBValue", "TemporalPositionIdentifier"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
)
"""The elements that are read."""

SPLITTING = {
    "b-value": "DiffusionBValue",
    "echo": "EchoNumbers",
    "echo time": "EchoTime",
    "temporal position": "TemporalPositionIdentifier",
    "trigger time": "TriggerTime",
    "acquisition number": "AcquisitionNumber",
    "image type": "ImageType",
}
"""What may tell images of the same place in one series from each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelLayout:
    """How the pixels of a file are stored.

    Args:
        syntax: UID of the transfer syntax.
        rows, columns: size of an image.
        samples: values of a pixel: 1 for grey, 3 for colours.
        photometric: PhotometricInterpretation.
        planar: whether the samples of an image are stored one after the other.
        allocated: bits of a stored value.
        stored: bits of it that are used.
        signed: whether values may be negative.
        frames: number of images in the file.
    """

    syntax: str
    rows: int
    columns: int
    samples: int
    photometric: str
    planar: bool
    allocated: int
    stored: int
    signed: bool
    frames: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSlice:
    """One image of a file.

    Args:
        path: the file.
        frame: its place in the file, from 0.
        layout: how it is stored.
        start: byte of the file at which the element of its pixels begins; -1 when the file is deflated.
        position: centre of its first pixel (x, y, z), mm to the left, back and head; None when the file does not say.
        orientation: directions of its rows and of its columns, six cosines; None when the file does not say.
        spacing: mm between its rows, and between its columns; None when the file does not say.
        thickness: SliceThickness in mm, which is trusted for a single slice only.
        slope, intercept: value = slope * stored value + intercept.
        padding: lowest and highest stored value of pixels that are no image; None without such pixels.
        instance: InstanceNumber.
        marks: what may tell it from other images of the same place, by the names of `SPLITTING`.
    """

    path: Path
    frame: int
    layout: PixelLayout
    start: int
    position: Vector | None
    orientation: Vector | None
    spacing: Vector | None
    thickness: float | None
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    instance: int | None
    marks: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomHeader:
    """What is read of the header of a DICOM file.

    Args:
        path: the file.
        sop_class: UID of the kind of object; empty when the file does not say.
        instance_uid: SOPInstanceUID; empty when the file does not say.
        series_uid: SeriesInstanceUID; empty when the file does not say.
        study_uid: StudyInstanceUID; empty when the file does not say.
        frame_of_reference: FrameOfReferenceUID; empty when the file does not say.
        modality: such as CT.
        image_type: values of ImageType, such as ORIGINAL, PRIMARY, AXIAL.
        description: SeriesDescription.
        number: SeriesNumber.
        slices: its images; none when the file holds no pixels.
    """

    path: Path
    sop_class: str
    instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference: str
    modality: str
    image_type: tuple[str, ...]
    description: str
    number: int | None
    slices: tuple[StoredSlice, ...]


def pydicom_for(path: Path) -> Any:
    """The package pydicom, which reads the file.

    Raises: EngineError when it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise EngineError(f"{path} is DICOM, which needs pydicom", hint='pip install "attunet[dicom]"') from error
    return pydicom


def read_header(path: Path) -> DicomHeader:
    """Read the header of a DICOM file, without its pixels.

    Raises: FormatError when it cannot be read as DICOM, EngineError when pydicom is not installed.
    """
    pydicom = pydicom_for(path)
    with open_regular(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that the standard does not allow, which may be the patient's
        try:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
            deflated = dataset.file_meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian
            return _header_of(dataset, path, -1 if deflated else stream.tell())
        except Exception as error:  # damaged bytes raise anything
            raise FormatError(
                f"cannot read {path} as DICOM: {type(error).__name__}", hint="the file may be damaged: copy it again"
            ) from error


def _header_of(dataset: Dataset, path: Path, start: int) -> DicomHeader:
    layout = _layout_of(dataset)
    return DicomHeader(
        path=path,
        sop_class=_text(dataset, "SOPClassUID"),
        instance_uid=_text(dataset, "SOPInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        modality=_text(dataset, "Modality"),
        image_type=tuple(map(str, _values(dataset, "ImageType"))),
        description=_text(dataset, "SeriesDescription"),
        number=_whole(dataset, "SeriesNumber"),
        slices=() if layout is None else (_slice_of(dataset, path, layout, start),),
    )


def _layout_of(dataset: Dataset) -> PixelLayout | None:
    """How pixels are stored; None for an object without."""
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    if not rows or not columns:
        return None
    allocated = _whole(dataset, "BitsAllocated") or 16
    return PixelLayout(
        syntax=str(dataset.file_meta.get("TransferSyntaxUID", "")) or _guessed_syntax(dataset),
        rows=rows,
        columns=columns,
        samples=_whole(dataset, "SamplesPerPixel") or 1,
        photometric=_text(dataset, "PhotometricInterpretation") or "MONOCHROME2",
        planar=_whole(dataset, "PlanarConfiguration") == 1,
        allocated=allocated,
        stored=_whole(dataset, "BitsStored") or allocated,
        signed=_whole(dataset, "PixelRepresentation") == 1,
        frames=_whole(dataset, "NumberOfFrames") or 1,
    )


def _guessed_syntax(dataset: Dataset) -> str:
    """The transfer syntax of a file that does not give it, by what its data set turned out to be."""
    implicit, little = dataset.original_encoding
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _slice_of(dataset: Dataset, path: Path, layout: PixelLayout, start: int) -> StoredSlice:
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    return StoredSlice(
        path=path,
        frame=0,
        layout=layout,
        start=start,
        position=_vector(dataset, "ImagePositionPatient", 3),
        orientation=_vector(dataset, "ImageOrientationPatient", 6),
        spacing=_vector(dataset, "PixelSpacing", 2),
        thickness=_number(dataset, "SliceThickness"),
        slope=1.0 if slope is None else slope,
        intercept=intercept or 0.0,
        padding=_padding_of(dataset, layout),
        instance=_whole(dataset, "InstanceNumber"),
        marks={name: tuple(map(str, _values(dataset, tag))) for name, tag in SPLITTING.items()},
    )


def _padding_of(dataset: Dataset, layout: PixelLayout) -> tuple[int, int] | None:
    """Lowest and highest stored value of padding, whichever sign the file wrote it with."""
    value, limit = _whole(dataset, "PixelPaddingValue"), _whole(dataset, "PixelPaddingRangeLimit")
    if value is None:
        return None
    ends = [_as_stored(end, layout) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _as_stored(value: int, layout: PixelLayout) -> int:
    span = 1 << layout.allocated
    value %= span
    return value - span if layout.signed and value >= span // 2 else value


def _values(dataset: Dataset, name: str) -> tuple[Any, ...]:
    value = dataset.get(name)
    if value is None or value == "":
        return ()
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,)


def _text(dataset: Dataset, name: str) -> str:
    values = _values(dataset, name)
    return str(values[0]).strip("\0 ") if values else ""


def _number(dataset: Dataset, name: str) -> float | None:
    values = _values(dataset, name)
    return float(values[0]) if values else None


def _whole(dataset: Dataset, name: str) -> int | None:
    number = _number(dataset, name)
    return None if number is None else int(number)


def _vector(dataset: Dataset, name: str, length: int) -> Vector | None:
    values = tuple(map(float, _values(dataset, name)))
    return values if len(values) == length else None
