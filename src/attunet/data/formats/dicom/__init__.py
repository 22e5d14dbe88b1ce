"""DICOM images: recognising files, finding series, and reading each as a volume."""

from __future__ import annotations

from attunet.data.formats.dicom.find import find_series
from attunet.data.formats.dicom.image import check_dicom, choose_series, describe_series, read_dicom
from attunet.data.formats.dicom.kinds import FolderObjects, objects_of
from attunet.data.formats.dicom.pixels import read_series
from attunet.data.formats.dicom.recognise import DICOM_SUFFIXES, holds_series, is_archive, is_dicom
from attunet.data.formats.dicom.series import DicomSeries, SeriesListing, SetAside

__all__ = [
    "DICOM_SUFFIXES",
    "DicomSeries",
    "FolderObjects",
    "SeriesListing",
    "SetAside",
    "check_dicom",
    "choose_series",
    "describe_series",
    "find_series",
    "holds_series",
    "is_archive",
    "is_dicom",
    "objects_of",
    "read_dicom",
    "read_series",
]
