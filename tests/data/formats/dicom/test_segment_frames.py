"""Frames of segmentations: each has a segment and a place; files that contradict themselves are refused."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_labels import make_segmentation
from dicom_series import make_series, sample

from attunet.data.formats.dicom.data_sets import read_whole
from attunet.data.formats.dicom.segment_frames import parse_frames
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


def frames_of(dataset, path="seg.dcm"):
    return parse_frames(dataset, parse_segmentation(dataset, path))


def test_frames_have_segments_and_places(series, tmp_path):
    path = tmp_path / "seg.dcm"
    written(series, "BINARY", "liver", "spleen").save_as(path, enforce_file_format=True)
    found = frames_of(read_whole(path), path)
    assert found.numbers.tolist() == [1, 1, 2, 2]
    np.testing.assert_allclose(found.planes[0], [[0.5, 0, 0], [0, 0.75, 0], [0, 0, 2.0]], atol=1e-6)
    assert found.thickness == 7.0


def test_frames_of_a_label_map_have_no_segment(series):
    assert frames_of(written(series, "LABELMAP")).numbers.tolist() == [0, 0]


def test_frames_without_a_place_are_told(series):
    dataset = written(series)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence
    assert frames_of(dataset).planes is None


def test_what_frames_share_may_be_told_once(series):
    dataset = written(series)
    del dataset.PerFrameFunctionalGroupsSequence[1]
    dataset.NumberOfFrames = 1
    (frame,) = dataset.PerFrameFunctionalGroupsSequence
    for name in ("PlanePositionSequence", "SegmentIdentificationSequence"):
        setattr(dataset.SharedFunctionalGroupsSequence[0], name, frame[name].value)
        delattr(frame, name)
    assert frames_of(dataset).numbers.tolist() == [1]


def _fewer_frames(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[1]


def _unnamed_segment(dataset):
    dataset.PerFrameFunctionalGroupsSequence[1].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def _frame_of_no_segment(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence


def _one_position_missing(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def _no_spacing(dataset):
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0, 1]


def _position_nan(dataset):
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = ["nan", "1", "2"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_fewer_frames, "has 2 frames, and describes 1"),
        (_unnamed_segment, "frames of a segment 9, which it does not name"),
        (_frame_of_no_segment, "frames that name no segment"),
        (_one_position_missing, "frames without position"),
        (_no_spacing, "frames without position, orientation or spacing"),
        (_position_nan, "frames without position"),
    ],
)
def test_files_that_contradict_themselves_are_refused(series, damage, message):
    dataset = written(series)
    damage(dataset)
    with pytest.raises(FormatError, match=message):
        frames_of(dataset)
