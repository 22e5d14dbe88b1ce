"""What kind of object each DICOM file is, read from its first elements alone, which is quick."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from attunet.data.formats.dicom.data_sets import parsing, read_elements
from attunet.data.formats.dicom.elements import text_of, texts_of
from attunet.errors import FormatError

__all__ = ["FileKind", "FolderObjects", "SeriesIdentity", "identify", "left_out_as", "objects_of"]

LABEL_OBJECTS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "label map segmentation",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT structure set",
}
"""Kinds of objects that hold labels of other series."""

NO_IMAGES = {
    "1.2.840.10008.1.3.10": "directory of a disc",
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.7.1": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.7.2": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.7.3": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.7.4": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
    "1.2.840.10008.5.1.4.1.1.481.2": "RT dose",
    "1.2.840.10008.5.1.4.1.1.481.5": "RT plan",
    "1.2.840.10008.5.1.4.1.1.104.1": "encapsulated PDF",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "whole-slide image",
}
"""Kinds of objects that are no images to segment, whether they hold pixels or not."""

FAMILIES = {
    "1.2.840.10008.5.1.4.1.1.88.": "structured report",
    "1.2.840.10008.5.1.4.1.1.11.": "presentation state",
    "1.2.840.10008.5.1.4.1.1.9.": "waveform",
    "1.2.840.10008.5.1.4.1.1.66": "registration or other derived object",
    "1.2.840.10008.5.1.4.1.1.481.": "radiotherapy object",
    "1.2.840.10008.5.1.4.1.1.104.": "encapsulated document",
}
"""Beginnings of the UIDs of further ones."""

THREADS = 4
FRAME_OF_REFERENCE = 0x00200052
"""The element behind which nothing is read."""
QUICK = ("SOPClassUID", "SeriesInstanceUID", "ImageType", "FrameOfReferenceUID")


class SeriesIdentity(NamedTuple):
    """What other objects call a series by: its SeriesInstanceUID, and its FrameOfReferenceUID; empty where unknown."""

    uid: str
    frame_of_reference: str


class FolderObjects(NamedTuple):
    """What the DICOM files of one folder are.

    Args:
        series: series of several files, which the folder stands for, with their files.
        images: files that are series of their own, each an image.
        labels: segmentations and structure sets.
        left_out: files that are no images, by what they are.
    """

    series: dict[SeriesIdentity, tuple[Path, ...]]
    images: dict[Path, SeriesIdentity]
    labels: tuple[Path, ...]
    left_out: dict[str, tuple[Path, ...]]


class FileKind(NamedTuple):
    """What a file is; empty where it does not say.

    Args:
        path: the file.
        sop_class: SOPClassUID.
        series: what other objects call its series by.
        image_type: values of ImageType.
    """

    path: Path
    sop_class: str
    series: SeriesIdentity
    image_type: tuple[str, ...]


def objects_of(files: Sequence[Path]) -> FolderObjects:
    """What the DICOM files of one folder are.

    Raises: EngineError when pydicom is not installed.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        kinds = list(pool.map(identify, files))
    left_out: dict[str, tuple[Path, ...]] = {}
    series: dict[str, list[FileKind]] = defaultdict(list)
    for kind in kinds:
        what = left_out_as(kind.sop_class, kind.image_type)
        if what is None:
            series[kind.series.uid].append(kind)
        elif kind.sop_class not in LABEL_OBJECTS:
            left_out[what] = (*left_out.get(what, ()), kind.path)
    return FolderObjects(
        {held[0].series: tuple(kind.path for kind in held) for held in series.values() if len(held) > 1},
        {held[0].path: held[0].series for held in series.values() if len(held) == 1},
        tuple(kind.path for kind in kinds if kind.sop_class in LABEL_OBJECTS),
        left_out,
    )


def left_out_as(sop_class: str, image_type: Sequence[str]) -> str | None:
    """What an object is called that is no image to segment; None for an image."""
    if sop_class in LABEL_OBJECTS or sop_class in NO_IMAGES:
        return LABEL_OBJECTS.get(sop_class) or NO_IMAGES[sop_class]
    for beginning, name in FAMILIES.items():
        if sop_class.startswith(beginning):
            return name
    return "localizer" if "LOCALIZER" in image_type else None


def identify(path: Path) -> FileKind:
    """What a file is, as far as it says. Raises: EngineError when pydicom is not installed."""
    try:
        dataset = read_elements(path, QUICK, last=FRAME_OF_REFERENCE).dataset
        with parsing(path):
            image_type = texts_of(dataset, "ImageType")
            series = SeriesIdentity(text_of(dataset, "SeriesInstanceUID"), text_of(dataset, "FrameOfReferenceUID"))
            return FileKind(path, text_of(dataset, "SOPClassUID"), series, image_type)
    except FormatError:  # reading the image reports what is wrong with it
        return FileKind(path, "", SeriesIdentity("", ""), ())
