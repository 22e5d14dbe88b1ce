"""Labels by name, whatever object holds them; anything else is one error."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_labels import add_contour, affine_of, make_segmentation, make_structure_set
from dicom_series import DATE, ID, NAME, make_series, sample

from attunet.data.formats.dicom.label_objects import read_label_object, read_named_masks
from attunet.data.volume import Volume
from attunet.errors import FormatError, GeometryError

SHAPE = (8, 7, 3)
AFFINE = np.diag([0.5, 0.75, 2.0, 1.0])
GRID = Volume(np.zeros((1, *SHAPE), np.uint8), AFFINE)


@pytest.fixture
def series():
    return make_series(sample(SHAPE), AFFINE)


@pytest.fixture
def masks():
    random = np.random.default_rng(0)
    return [(name, random.random(SHAPE) < 0.5) for name in ("liver", "Tumour 2", "liver")]


@pytest.fixture(params=["structure set", "segmentation"])
def path(request, series, masks, tmp_path):
    make = make_structure_set if request.param == "structure set" else make_segmentation
    path = tmp_path / "labels"
    make(series, masks).save_as(path, enforce_file_format=True)
    return path


def test_both_objects_hold_the_same_masks(path, series, masks):
    found = read_label_object(path)
    assert found.names == ("liver", "Tumour 2")
    assert found.series == {series[0].SeriesInstanceUID}
    assert found.frames_of_reference == {series[0].FrameOfReferenceUID}
    tumour, liver = read_named_masks(path, ["Tumour 2", "liver"], GRID)
    assert (tumour.array[0] == masks[1][1]).all()
    assert (liver.array[0] == (masks[0][1] | masks[2][1])).all()
    assert tumour.array.dtype == np.uint8


def test_an_unknown_name_is_refused_with_the_known_ones(path):
    with pytest.raises(FormatError, match="has no single mask spleen, but the masks liver, Tumour 2"):
        next(read_named_masks(path, ["spleen"], GRID))


def test_names_are_found_in_any_letter_case_and_the_only_one_needs_none(path, masks, series):
    (tumour,) = read_named_masks(path, ["TUMOUR 2"], GRID)
    assert (tumour.array[0] == masks[1][1]).all()
    with pytest.raises(FormatError, match="has no single mask, but the masks liver, Tumour 2"):
        next(read_named_masks(path, [None], GRID))
    make_segmentation(series, masks[1:2]).save_as(path, enforce_file_format=True)
    (only,) = read_named_masks(path, [None], GRID)
    assert (only.array == tumour.array).all()


def test_contours_need_an_image(series, masks, tmp_path):
    make_structure_set(series, masks).save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    assert read_label_object(tmp_path / "rs.dcm").contours
    with pytest.raises(GeometryError, match="only on the grid of an image"):
        next(read_named_masks(tmp_path / "rs.dcm", ["liver"]))


def test_what_is_odd_about_a_mask_is_told_when_it_is_read(series, masks, tmp_path):
    structures = make_structure_set(series, masks)
    add_contour(structures, 2, [(1, 1, 9), (3, 1, 9), (3, 3, 9)], affine_of(series))
    structures.save_as(tmp_path / "rs.dcm", enforce_file_format=True)
    notices = []
    list(read_named_masks(tmp_path / "rs.dcm", ["liver", "Tumour 2"], GRID, notices.append))
    assert any("contours of the ROI Tumour 2 lie outside the image" in notice for notice in notices)


def test_other_objects_are_refused(series, tmp_path):
    series[0].save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    with pytest.raises(FormatError, match="is neither a segmentation nor a structure set"):
        read_label_object(tmp_path / "ct.dcm")


def refusal(path):
    """The message of the error that reading all masks raises; empty when they can be read."""
    try:
        list(read_named_masks(path, read_label_object(path).names, GRID))
    except (FormatError, GeometryError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kept", [0, 100, 300, 700, 0.5, 0.9, 0.99])
def test_cut_files_are_read_or_refused_without_a_word_of_the_patient(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert not any(text in refusal(path) for text in (NAME, ID, DATE))


def test_changed_bytes_are_read_or_refused(path):
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(content)
        for place in random.integers(132, len(content), 3):
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        message = refusal(path)
        assert not message or str(path) in message or "ROI" in message
