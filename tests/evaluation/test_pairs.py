"""Pairs of masks in any format, read on one grid: names of masks in DICOM objects are names of labels."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from dicom_labels import make_segmentation, make_structure_set
from dicom_series import make_series, sample, save_series

from attunet.data.cases import read_case_image, read_dataset
from attunet.errors import GeometryError, LabelError
from attunet.evaluation.evaluate import evaluate
from attunet.evaluation.pairs import Pair, match, named_pairs, read_on_one_grid

SHAPE = (12, 10, 6)
AFFINE = np.diag([0.5, 0.75, 2.0, 1.0])


def blob(low, high):
    mask = np.zeros(SHAPE, bool)
    mask[low:high, 2:8, 1:5] = True
    return mask


LIVER, TUMOUR, GUESS = blob(1, 9), blob(5, 7), blob(2, 9)


@pytest.fixture
def series():
    return make_series(sample(SHAPE), AFFINE)


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def nifti(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8), AFFINE), path)
    return path


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_segments_are_compared_by_name_where_both_have_them(tmp_path, series):
    save(make_segmentation(series, [("liver", LIVER), ("tumour", TUMOUR)]), tmp_path / "truth/p1.dcm")
    save(make_segmentation(series, [("Tumour", TUMOUR), ("liver", GUESS)]), tmp_path / "guess/p1.dcm")
    summary = evaluate(tmp_path / "truth", tmp_path / "guess")
    assert dict(summary.labels) == {"liver": 1, "tumour": 2}
    assert summary.mean("liver") == pytest.approx(dice(LIVER, GUESS))  # the tumour lies in the liver of both
    assert summary.mean("tumour") == 1.0


def test_contours_lie_on_the_grid_of_the_other_mask(tmp_path, series):
    save(make_structure_set(series, [("liver", LIVER), ("BODY", blob(0, 12))]), tmp_path / "truth/p1.dcm")
    nifti(GUESS * 3, tmp_path / "guess/p1.nii.gz")
    summary = evaluate(tmp_path / "truth", tmp_path / "guess", labels={"liver": 3})
    assert summary.mean("liver") == pytest.approx(dice(LIVER, GUESS))
    save(make_segmentation(series, [("liver", GUESS)]), tmp_path / "segments/p1.dcm")
    other = evaluate(tmp_path / "segments", tmp_path / "truth", labels={"liver": 1})
    assert other.mean("liver") == pytest.approx(dice(LIVER, GUESS))


def test_a_single_mask_needs_no_declaration_and_several_do(tmp_path, series):
    save(make_segmentation(series, [("liver", LIVER)]), tmp_path / "truth/p1.dcm")
    nifti(GUESS, tmp_path / "guess/p1.nii.gz")
    assert evaluate(tmp_path / "truth", tmp_path / "guess").mean("liver") == pytest.approx(dice(LIVER, GUESS))
    save(make_segmentation(series, [("liver", LIVER), ("tumour", TUMOUR)]), tmp_path / "truth/p1.dcm")
    with pytest.raises(LabelError, match=r'the masks liver, tumour have names.*--labels "liver=1'):
        evaluate(tmp_path / "truth", tmp_path / "guess")
    (tmp_path / "truth/dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 2, "liver": 1}}))
    assert evaluate(tmp_path / "truth", tmp_path / "guess").mean("liver") == pytest.approx(dice(LIVER, GUESS))


def test_masks_without_a_label_are_refused_unless_one_is_chosen(tmp_path, series):
    truth = save(make_segmentation(series, [("Segment_1", LIVER)]), tmp_path / "p1.dcm")
    guess = nifti(GUESS, tmp_path / "p1.nii.gz")
    with pytest.raises(LabelError, match="holds the masks Segment_1, none of which is called like a label"):
        evaluate(truth, guess, labels={"liver": 1})
    chosen = evaluate(truth, guess, labels={"liver": 1}, key="segment_1")
    assert chosen.mean("liver") == pytest.approx(dice(LIVER, GUESS))


def test_segments_on_other_slices_are_read_on_one_grid(tmp_path, series):
    low, high = LIVER.copy(), LIVER.copy()
    low[:, :, 3:], high[:, :, :2] = False, False
    one = save(make_segmentation(series, [("liver", low)]), tmp_path / "one.dcm")
    other = save(make_segmentation(series, [("liver", high)], order=1), tmp_path / "other.dcm")
    (pair,), _ = named_pairs([Pair("p1", one, other)], {})
    reference, prediction = read_on_one_grid(pair)
    assert reference.spatial_shape == prediction.spatial_shape == (12, 10, 4)
    assert (reference.array[0] == low[:, :, 1:5]).all()
    assert (prediction.array[0] == high[:, :, 1:5]).all()
    assert evaluate(one, other).mean("liver") == pytest.approx(dice(low, high))


def test_contours_alone_have_no_grid(tmp_path, series):
    one = save(make_structure_set(series, [("liver", LIVER)]), tmp_path / "one.dcm")
    with pytest.raises(GeometryError, match="only on the grid of an image"):
        evaluate(one, one)


def test_references_may_be_a_data_set_of_series_and_labels(tmp_path, series):
    for name in ("p1", "p2"):
        held = make_series(sample(SHAPE), AFFINE)
        save_series(held, tmp_path / "data" / name / "ct")
        parts = [("liver", LIVER), ("tumour", TUMOUR)][: 2 if name == "p1" else 1]
        save(make_structure_set(held, parts), tmp_path / "data" / name / "rs.dcm")
    ids = [case.id for case in read_dataset(tmp_path / "data").cases]
    image = read_case_image(read_dataset(tmp_path / "data").cases[0])
    for id in ids:
        (tmp_path / "guess").mkdir(exist_ok=True)
        turned = np.flip(GUESS, 2) if image.affine[2, 2] < 0 else GUESS
        nibabel.save(nibabel.Nifti1Image(turned.astype(np.uint8), image.affine), tmp_path / "guess" / f"{id}.nii.gz")
    pairs, extra = match(tmp_path / "data", tmp_path / "guess")
    assert [pair.case for pair in pairs] == ids
    assert extra == []
    summary = evaluate(tmp_path / "data", tmp_path / "guess")
    assert summary.mean("liver") == pytest.approx(dice(LIVER, GUESS))
    assert set(summary.cases[1].scores) == {"liver"}  # the tumour was not annotated
    assert summary.cases[0].scores["tumour"].counts.tp == 0


def test_predicted_objects_belong_to_the_case_that_their_names_begin_with(tmp_path, series):
    nifti(LIVER, tmp_path / "truth/p1.nii.gz")
    nifti(LIVER, tmp_path / "truth/p2.nii.gz")
    guess = tmp_path / "guess"
    save(make_structure_set(series, [("liver", LIVER)]), guess / "p1_rtstruct.dcm")
    save(make_segmentation(series, [("liver", GUESS)]), guess / "p1_seg.dcm")
    series[0].SOPClassUID = series[0].file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
    save(series[0], guess / "p1_attention_level2.dcm")  # a parametric map
    nifti(LIVER, guess / "p2.nii.gz")
    save(make_segmentation(series, [("liver", GUESS)]), guess / "p2_seg.dcm")
    pairs, extra = match(tmp_path / "truth", guess)
    assert [pair.prediction.name for pair in pairs] == ["p1_seg.dcm", "p2.nii.gz"]
    assert extra == []
    summary = evaluate(tmp_path / "truth", guess)
    assert summary.values("liver") == {"p1": pytest.approx(dice(LIVER, GUESS)), "p2": 1.0}


def test_a_missing_prediction_counts(tmp_path, series):
    save(make_segmentation(series, [("liver", LIVER)]), tmp_path / "truth/p1.dcm")
    save(make_segmentation(series, [("liver", LIVER)]), tmp_path / "truth/p2.dcm")
    save(make_segmentation(series, [("liver", LIVER)]), tmp_path / "guess/p1.dcm")
    summary = evaluate(tmp_path / "truth", tmp_path / "guess")
    assert summary.values("liver") == {"p1": 1.0, "p2": 0.0}
