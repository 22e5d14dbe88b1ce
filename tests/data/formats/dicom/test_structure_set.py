"""Structure sets: ROIs by name, and every contour either used, or left out and named, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_labels import add_contour, affine_of, make_structure_set
from dicom_series import DATE, ID, NAME, make_series, sample
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from attunet.data.formats.dicom import structure_set
from attunet.data.formats.dicom.data_sets import read_whole
from attunet.data.formats.dicom.structure_set import parse_structure_set
from attunet.errors import FormatError

SHAPE = (8, 7, 3)
SQUARE = [(1, 1, 1), (4, 1, 1), (4, 4, 1), (1, 4, 1)]


@pytest.fixture
def series():
    return make_series(sample(SHAPE))


def drawn(series, *names):
    mask = np.zeros(SHAPE, bool)
    mask[2:5, 1:6, 1:] = True
    return make_structure_set(series, [(name, mask) for name in names])


def parsed(dataset, path):
    """The structure set after a file has been written and read."""
    dataset.save_as(path, enforce_file_format=True)
    return parse_structure_set(read_whole(path), path)


def test_rois_have_names_contours_and_references(series, tmp_path):
    found = parsed(drawn(series, "liver", "GTV 1"), tmp_path / "rs.dcm")
    assert [region.name for region in found.regions] == ["liver", "GTV 1"]
    assert [len(region.contours) for region in found.regions] == [2, 2]
    np.testing.assert_allclose(found.regions[0].contours[0].min(axis=0), [1.5 * 0.5, 0.5 * 0.75, 2.0], atol=1e-6)
    assert found.series == {series[0].SeriesInstanceUID}
    assert found.frames_of_reference == {series[0].FrameOfReferenceUID}
    assert found.notices == ()
    assert not any(text in str(found) for text in (NAME, ID, DATE))


def test_bytes_and_numbers_are_the_same_contours(series, tmp_path):
    dataset = drawn(series, "liver")
    in_memory, from_file = parse_structure_set(dataset, "rs.dcm"), parsed(dataset, tmp_path / "rs.dcm")
    for one, other in zip(in_memory.regions[0].contours, from_file.regions[0].contours, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_kinds_of_contours_are_left_out_and_named(series):
    dataset = drawn(series, "liver", "marker", "empty")
    affine = affine_of(series)
    add_contour(dataset, 1, SQUARE[:1], affine, "POINT")
    add_contour(dataset, 1, SQUARE[:2], affine)
    dataset.ROIContourSequence[1].ContourSequence = []
    add_contour(dataset, 2, SQUARE, affine, "OPEN_PLANAR")
    dataset.ROIContourSequence[2].ContourSequence = []
    found = parse_structure_set(dataset, "rs.dcm")
    assert [(region.name, len(region.contours)) for region in found.regions] == [("liver", 2)]
    assert found.notices == (
        "contours of the ROI liver other than closed planar ones are left out "
        "(1 of POINT, 1 of fewer than three points)",
        "contours of the ROI marker other than closed planar ones are left out (1 of OPEN_PLANAR), and so is the ROI",
        "the ROI empty is left out: it has no contours",
    )


def test_a_last_point_that_repeats_the_first_is_no_vertex(series):
    dataset = drawn(series, "liver")
    add_contour(dataset, 1, [*SQUARE, SQUARE[0]], affine_of(series))
    assert len(parse_structure_set(dataset, "rs.dcm").regions[0].contours[-1]) == 4


def test_an_roi_without_a_name_has_its_number(series):
    dataset = drawn(series, "")
    assert parse_structure_set(dataset, "rs.dcm").regions[0].name == "ROI_1"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (rb"1\2\nan\4\5\6\7\8\9", "no numbers of a patient"),
        (rb"1\2\3\4\5\inf\7\8\9", "no numbers of a patient"),
        (rb"1\2\3\4\5\1e30\7\8\9", "no numbers of a patient"),
        (rb"1\2\3\4\x\6\7\8\9", "no numbers of a patient"),
        (rb"1\2\3\4\\6\7\8\9", "no numbers of a patient"),
        (rb"1\2\3\4\5\6\7\8", "incomplete points"),
    ],
)
def test_coordinates_that_are_none_are_refused(series, value, message):
    dataset = drawn(series, "liver")
    item = dataset.ROIContourSequence[0].ContourSequence[0]
    item[Tag("ContourData")] = RawDataElement(Tag("ContourData"), "DS", len(value), value, 0, False, True)
    with pytest.raises(FormatError, match=f"the ROI liver in rs.dcm has .*{message}"):
        parse_structure_set(dataset, "rs.dcm")


def test_contours_that_contradict_the_file_are_refused(series, monkeypatch):
    dataset = drawn(series, "liver")
    add_contour(dataset, 1, SQUARE, affine_of(series), "CLOSEDPLANAR_XOR")
    with pytest.raises(FormatError, match="which exclude each other"):
        parse_structure_set(dataset, "rs.dcm")
    dataset.ROIContourSequence[0].ReferencedROINumber = 9
    with pytest.raises(FormatError, match="contours of an ROI 9, which it does not name"):
        parse_structure_set(dataset, "rs.dcm")
    monkeypatch.setattr(structure_set, "MOST_CONTOURS", 1)
    with pytest.raises(FormatError, match="has 2 contours, more than 1"):
        parse_structure_set(drawn(series, "liver"), "rs.dcm")


def test_nothing_but_names_and_contours_is_needed(series):
    dataset = drawn(series, "liver")
    del dataset.ReferencedFrameOfReferenceSequence
    del dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    del dataset.FrameOfReferenceUID
    found = parse_structure_set(dataset, "rs.dcm")
    assert (found.series, found.frames_of_reference, len(found.regions)) == (frozenset(), frozenset(), 1)
    del dataset.ROIContourSequence
    assert parse_structure_set(dataset, "rs.dcm").regions == ()
