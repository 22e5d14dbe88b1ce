"""Headers of DICOM files: what identifies an object, and its images as slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attunet.data.formats.dicom.data_sets import Elements, parsing, read_elements
from attunet.data.formats.dicom.elements import first_item, number_of, text_of, texts_of, values_of, vector_of, whole_of
from attunet.data.formats.dicom.frames import FRAME_TAGS, slices_of_frames
from attunet.data.formats.dicom.mosaic import MOSAIC_TAGS, is_mosaic, slices_of_mosaic
from attunet.data.formats.dicom.plane_spacing import SPACING_TAGS, plane_spacing
from attunet.data.formats.dicom.slices import PixelLayout, StoredSlice
from attunet.data.geometry import Array

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["DicomHeader", "read_header"]

MARK_TAGS: dict[str, str] = {
    "frame of reference": "FrameOfReferenceUID",
    "b-value": "DiffusionBValue",
    "gradient direction": "DiffusionGradientOrientation",
    "echo": "EchoNumbers",
    "temporal position": "TemporalPositionIdentifier",
    "echo time": "EchoTime",
    "trigger time": "TriggerTime",
    "acquisition": "AcquisitionNumber",
    "image type": "ImageType",
}
"""The element of each mark of a file of one image."""
VENDOR_B_VALUES = (0x0019100C, 0x00431039, 0x20011003)
"""Private elements in which Siemens, GE and Philips write the b-value."""
OVERLAY_BIT = 0x60000102
MEASURED = ("CT", "MR", "NM", "PT")
"""Modalities whose values mean something whether low ones are to be seen dark or bright."""

TAGS: tuple[str | int, ...] = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("Modality", "SeriesDescription", "SeriesNumber", "InstanceNumber", *MARK_TAGS.values()),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "SpacingBetweenSlices", *SPACING_TAGS),
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", *FRAME_TAGS),
    *(*VENDOR_B_VALUES, OVERLAY_BIT, *MOSAIC_TAGS),
)
"""The elements that are read; none of them is the patient's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomHeader:
    """What is read of the header of a DICOM file.

    Args:
        path: the file.
        sop_class: UID of the kind of object; empty when the file does not say.
        instance_uid: SOPInstanceUID; empty when the file does not say.
        series_uid: SeriesInstanceUID, or that of the study when the file does not say.
        study_uid: StudyInstanceUID; empty when the file does not say.
        modality: such as CT.
        image_type: values of ImageType, such as ORIGINAL, PRIMARY, AXIAL.
        description: SeriesDescription.
        number: SeriesNumber.
        slices: its images; none when the file holds no pixels.
        notices: what was guessed, in sentences.
    """

    path: Path
    sop_class: str
    instance_uid: str
    series_uid: str
    study_uid: str
    modality: str
    image_type: tuple[str, ...]
    description: str
    number: int | None
    slices: tuple[StoredSlice, ...]
    notices: tuple[str, ...]


def read_header(path: Path) -> DicomHeader:
    """Read the header of a DICOM file, without its pixels.

    Raises: FormatError when it cannot be read as DICOM, EngineError when pydicom is not installed.
    """
    elements = read_elements(path, TAGS)
    with parsing(path):
        return _header_of(elements, path)


def _header_of(elements: Elements, path: Path) -> DicomHeader:
    dataset, layout = elements.dataset, _layout_of(elements)
    slices: tuple[StoredSlice, ...] = ()
    notices: tuple[str, ...] = ()
    if layout is not None:
        whole, notices = _slice_of(elements, path, layout)
        if is_mosaic(dataset):
            slices = slices_of_mosaic(dataset, whole)
        else:
            slices, more = slices_of_frames(dataset, whole)
            notices += more
    return DicomHeader(
        path=path,
        sop_class=text_of(dataset, "SOPClassUID"),
        instance_uid=text_of(dataset, "SOPInstanceUID"),
        series_uid=text_of(dataset, "SeriesInstanceUID") or text_of(dataset, "StudyInstanceUID"),
        study_uid=text_of(dataset, "StudyInstanceUID"),
        modality=text_of(dataset, "Modality"),
        image_type=texts_of(dataset, "ImageType"),
        description=text_of(dataset, "SeriesDescription"),
        number=whole_of(dataset, "SeriesNumber"),
        slices=slices,
        notices=notices,
    )


def _layout_of(elements: Elements) -> PixelLayout | None:
    """How pixels are stored; None for an object without."""
    dataset = elements.dataset
    rows, columns = whole_of(dataset, "Rows"), whole_of(dataset, "Columns")
    if not rows or not columns:
        return None
    allocated = whole_of(dataset, "BitsAllocated") or 16
    stored = whole_of(dataset, "BitsStored") or allocated
    high = whole_of(dataset, "HighBit")
    overlay = dataset.get(OVERLAY_BIT)
    return PixelLayout(
        syntax=elements.syntax,
        rows=rows,
        columns=columns,
        samples=whole_of(dataset, "SamplesPerPixel") or 1,
        photometric=text_of(dataset, "PhotometricInterpretation") or "MONOCHROME2",
        planar=whole_of(dataset, "PlanarConfiguration") == 1,
        allocated=allocated,
        stored=stored,
        high=stored - 1 if high is None else high,
        signed=whole_of(dataset, "PixelRepresentation") == 1,
        frames=whole_of(dataset, "NumberOfFrames") or 1,
        overlays=overlay is not None and overlay.value not in (None, 0),
    )


def _slice_of(elements: Elements, path: Path, layout: PixelLayout) -> tuple[StoredSlice, tuple[str, ...]]:
    """The first image of a file as the elements for all of its images describe it, and what was guessed."""
    dataset = elements.dataset
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    spacing, notices = plane_spacing(dataset)
    modality = text_of(dataset, "Modality")
    found = StoredSlice(
        path=path,
        frame=0,
        layout=layout,
        start=elements.start,
        position=vector_of(dataset, "ImagePositionPatient", 3),
        orientation=vector_of(dataset, "ImageOrientationPatient", 6),
        spacing=spacing,
        thickness=number_of(dataset, "SliceThickness"),
        slope=1.0 if slope is None else slope,
        intercept=intercept or 0.0,
        rescale=slope is not None or intercept is not None,
        table=_table_of(dataset),
        padding=_padding_of(dataset, layout),
        inverted=layout.photometric == "MONOCHROME1" and modality not in MEASURED,
        instance=whole_of(dataset, "InstanceNumber"),
        marks=_marks_of(dataset),
    )
    if found.padding is not None and found.padding[0] > 1 << (layout.allocated - 1 - layout.signed):
        notices += (
            f"pixels of the stored value {found.padding[0]} are padding, and get the lowest value of the image",
        )
    if layout.photometric == "MONOCHROME1":
        told = "inverted, so that high ones are bright" if found.inverted else f"kept, because {modality} measures them"
        notices += (f"low values are to be seen bright (MONOCHROME1): they are {told}",)
    return found, notices


def _marks_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    marks = {name: texts_of(dataset, tag) for name, tag in MARK_TAGS.items()}
    vendors = [dataset[tag].value for tag in VENDOR_B_VALUES if tag in dataset]
    return {**marks, "vendor's b-value": tuple(str(value) for value in vendors)}


def _table_of(dataset: Dataset) -> tuple[int, Array] | None:
    """The Modality LUT: its first stored value, and its entries (PS3.3 C.11.1)."""
    item = first_item(dataset, "ModalityLUTSequence")
    if item is None:
        return None
    count, first, bits = map(int, values_of(item, "LUTDescriptor"))
    data = item["LUTData"].value
    entries = (
        np.frombuffer(data, "u1" if bits <= 8 and len(data) < 2 * count else "<u2") if isinstance(data, bytes) else data
    )
    table = np.array(entries, np.int32)[: count or 2**16]
    if len(table) < (count or 2**16):
        raise ValueError("the table is shorter than it says")
    return first, table


def _padding_of(dataset: Dataset, layout: PixelLayout) -> tuple[int, int] | None:
    """Lowest and highest stored value of padding, whichever sign the file wrote it with."""
    value, limit = whole_of(dataset, "PixelPaddingValue"), whole_of(dataset, "PixelPaddingRangeLimit")
    if value is None:
        return None
    ends = [_as_stored(end, layout) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _as_stored(value: int, layout: PixelLayout) -> int:
    span = 1 << layout.allocated
    value %= span
    return value - span if layout.signed and value >= span // 2 else value
