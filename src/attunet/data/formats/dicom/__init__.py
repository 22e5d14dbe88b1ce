"""DICOM: recognising files, finding series, reading each as a volume, and the masks of segmentations and structures."""

from __future__ import annotations

from attunet.data.formats.dicom.data_sets import read_tags
from attunet.data.formats.dicom.find import find_series
from attunet.data.formats.dicom.image import check_dicom, choose_series, describe_series, read_dicom
from attunet.data.formats.dicom.kinds import FolderObjects, SeriesIdentity, objects_of
from attunet.data.formats.dicom.label_objects import (
    LabelObject,
    NoticeHook,
    is_label_object,
    read_label_object,
    read_named_masks,
)
from attunet.data.formats.dicom.pixels import read_series
from attunet.data.formats.dicom.recognise import DICOM_SUFFIXES, holds_series, is_archive, is_dicom
from attunet.data.formats.dicom.series import DicomSeries, SeriesListing, SetAside, is_chosen, series_key

__all__ = [
    "DICOM_SUFFIXES",
    "DicomSeries",
    "FolderObjects",
    "LabelObject",
    "NoticeHook",
    "SeriesIdentity",
    "SeriesListing",
    "SetAside",
    "check_dicom",
    "choose_series",
    "describe_series",
    "find_series",
    "holds_series",
    "is_archive",
    "is_chosen",
    "is_dicom",
    "is_label_object",
    "objects_of",
    "read_dicom",
    "read_label_object",
    "read_named_masks",
    "read_series",
    "read_tags",
    "series_key",
]
