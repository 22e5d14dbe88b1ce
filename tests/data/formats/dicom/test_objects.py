"""Data sets of DICOM objects: damaged ones are one error, and pydicom's warnings are not shown."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from dicom_labels import make_segmentation
from dicom_series import make_series, sample

from attunet.data.formats.dicom.objects import dicom_items, dicom_text, read_object, reading_object
from attunet.errors import FormatError, LabelError

SHAPE = (4, 3, 2)


@pytest.fixture
def path(tmp_path):
    segmentation = make_segmentation(make_series(sample(SHAPE)), [("liver", np.ones(SHAPE, np.uint8))])
    segmentation.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    return tmp_path / "seg.dcm"


def test_all_or_some_elements_are_read(path):
    assert len(read_object(path).PixelData) == 4
    assert [element.keyword for element in read_object(path, ["Modality", "Rows"])] == ["Modality", "Rows"]


def test_items_and_texts_of_missing_elements_are_empty(path):
    dataset = read_object(path)
    assert [dicom_text(item, "SegmentLabel") for item in dicom_items(dataset, "SegmentSequence")] == ["liver"]
    assert dicom_items(dataset, "ROIContourSequence") == []
    assert dicom_text(dataset, "SeriesDescription") == ""


def test_what_damage_raises_is_one_error(path):
    with pytest.raises(FormatError, match=r"cannot read .*seg.dcm as DICOM: ZeroDivisionError"), reading_object(path):
        print(1 / 0)
    with pytest.raises(LabelError), reading_object(path):
        raise LabelError("stays what it is")
    with warnings.catch_warnings(record=True) as shown, reading_object(path):
        warnings.warn("the patient is called so and so", stacklevel=1)
    assert shown == []
