"""Elements of DICOM files: damaged ones are one error, and pydicom's warnings are not shown."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from dicom_labels import make_segmentation
from dicom_series import make_series, sample
from pydicom.uid import DeflatedExplicitVRLittleEndian

from attunet.data.formats.dicom import elements
from attunet.data.formats.dicom.elements import first_item, parsing, read_elements, read_whole, text_of, values_of
from attunet.errors import FormatError, LabelError

SHAPE = (4, 3, 2)


@pytest.fixture(params=[False, True], ids=["plain", "deflated"])
def path(request, tmp_path):
    segmentation = make_segmentation(make_series(sample(SHAPE)), [("liver", np.ones(SHAPE, np.uint8))])
    if request.param:
        segmentation.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    segmentation.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    return tmp_path / "seg.dcm"


def test_all_or_some_elements_are_read(path):
    assert len(read_whole(path).PixelData) == 4
    some = read_elements(path, ["Modality", "Rows", "PixelData"]).dataset
    assert [element.keyword for element in some] == ["Modality", "Rows"]


def test_values_of_missing_elements_are_empty(path):
    dataset = read_whole(path)
    assert [text_of(item, "SegmentLabel") for item in values_of(dataset, "SegmentSequence")] == ["liver"]
    assert values_of(dataset, "ROIContourSequence") == ()
    assert first_item(dataset, "ROIContourSequence") is None
    assert text_of(dataset, "SeriesDescription") == ""


def test_a_file_that_inflates_beyond_its_limit_is_refused(path, monkeypatch):
    monkeypatch.setattr(elements, "LEAST_LIMIT", 100)
    monkeypatch.setattr(elements, "RATIO", 0)
    if b"1.2.840.10008.1.2.1.99" in path.read_bytes():
        with pytest.raises(FormatError, match="has more than 100 bytes when it is inflated"):
            read_whole(path)
    else:
        read_whole(path)


def test_what_damage_raises_is_one_error_without_its_text(path):
    with (
        pytest.raises(FormatError, match=r"cannot read .*seg.dcm as DICOM \(ZeroDivisionError\)") as raised,
        parsing(path),
    ):
        print(1 / 0)
    assert raised.value.__cause__ is None
    with pytest.raises(LabelError), parsing(path):
        raise LabelError("stays what it is")
    with warnings.catch_warnings(record=True) as shown, parsing(path):
        warnings.warn("the patient is called so and so", stacklevel=1)
    assert shown == []
