"""Segmentations: segments by name; files that contradict themselves are refused."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_labels import make_segmentation
from dicom_series import DATE, ID, NAME, make_series, sample
from pydicom import Dataset

from attunet.data.formats.dicom.data_sets import read_whole
from attunet.data.formats.dicom.segmentation import parse_segmentation
from attunet.errors import FormatError

SHAPE = (8, 7, 3)


@pytest.fixture
def series():
    return make_series(sample(SHAPE))


def written(series, kind="BINARY", *names, **tags):
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 1:6, 1:] = 1
    return make_segmentation(series, [(name, mask) for name in names or ("liver",)], kind, **tags)


def test_segments_have_names_and_references(series, tmp_path):
    path = tmp_path / "seg.dcm"
    written(series, "BINARY", "liver", "spleen").save_as(path, enforce_file_format=True)
    found = parse_segmentation(read_whole(path), path)
    assert found.segments == ((1, "liver"), (2, "spleen"))
    assert (found.columns, found.rows) == (8, 7)
    assert found.series == {series[0].SeriesInstanceUID}
    assert found.frames_of_reference == {series[0].FrameOfReferenceUID}
    assert not any(text in str(found) for text in (NAME, ID, DATE))


def test_segmentations_of_other_studies_name_their_series(series):
    dataset, study = written(series), Dataset()
    study.ReferencedSeriesSequence = dataset.ReferencedSeriesSequence
    del dataset.ReferencedSeriesSequence
    dataset.StudiesContainingOtherReferencedInstancesSequence = [study]
    assert parse_segmentation(dataset, "seg.dcm").series == {series[0].SeriesInstanceUID}


def test_fractions_and_label_maps_are_told(series):
    fractional = parse_segmentation(written(series, "FRACTIONAL"), "seg.dcm")
    assert fractional.maximum == 200
    assert fractional.notices == ("its values are fractions (probability): voxels of at least a half count",)
    dataset = written(series, "LABELMAP", "liver", "air", PixelPaddingValue=2)
    found = parse_segmentation(dataset, "seg.dcm")
    assert (found.kind, found.segments, found.background) == ("LABELMAP", ((1, "liver"),), 2)


def test_names_come_from_the_label_or_the_code_or_the_number(series):
    dataset = written(series, "BINARY", "", "")
    code = Dataset()
    code.CodeMeaning = "Liver"
    dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence = [code]
    assert [segment.name for segment in parse_segmentation(dataset, "seg.dcm").segments] == ["Liver", "segment_2"]


def test_segments_are_found_by_name(series):
    found = parse_segmentation(written(series, "BINARY", "lesion", "lesion", "liver"), "seg.dcm")
    assert found.numbers_of("lesion") == [1, 2]


def _tiled(dataset):
    dataset.TotalPixelMatrixColumns = 100


def _unknown_type(dataset):
    dataset.SegmentationType = "SURFACE"


def _no_segments(dataset):
    del dataset.SegmentSequence


def _same_number(dataset):
    dataset.SegmentSequence.append(dataset.SegmentSequence[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_tiled, "segments a slide in tiles"),
        (_unknown_type, "of the unknown type SURFACE"),
        (_no_segments, "has no segments"),
        (_same_number, "several segments of one number"),
    ],
)
def test_files_that_contradict_themselves_are_refused(series, damage, message):
    dataset = written(series)
    damage(dataset)
    with pytest.raises(FormatError, match=message):
        parse_segmentation(dataset, "seg.dcm")
