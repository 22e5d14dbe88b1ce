"""What each further fold adds is measured on cases that no fold has seen, and on no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from attunet.bundle import load_bundle
from attunet.data.cases import read_case, read_dataset
from attunet.errors import ConfigError, DatasetError
from attunet.evaluation.scores import dice_case
from attunet.failures import Failures
from attunet.inference.segmenter import Segmenter
from attunet.selection.cross_validation import cross_validate
from attunet.selection.prediction_choice import case_dice
from attunet.selection.unseen import measure_folds, unseen_cases

pytestmark = pytest.mark.integration


@pytest.fixture
def others(write_blobs, tmp_path):
    """Eight cases, the first six of which have the images of the run's data set."""
    return write_blobs(tmp_path / "others", cases=8)


def test_cases_that_a_fold_has_seen_are_left_out_whatever_their_name(folded, others):
    assert [case.id for case in unseen_cases(folded, others)] == ["case6", "case7"]
    for kind in ("images", "labels"):
        (others / kind / "case0.nii").rename(others / kind / "renamed.nii")
    assert [case.id for case in unseen_cases(folded, others)] == ["case6", "case7"]


def test_a_run_of_one_fold_has_no_number_of_folds_to_decide(make_model, others):
    with pytest.raises(ConfigError, match="has one fold"):
        unseen_cases(make_model(3), others)


def test_cases_that_were_added_to_the_data_set_are_unseen(folded, others):
    own = folded.parent / "blobs"
    with pytest.raises(DatasetError, match="all 6 labelled cases"):
        unseen_cases(folded, own)
    for kind in ("images", "labels"):
        shutil.copy(others / kind / "case7.nii", own / kind / "later.nii")
    assert [case.id for case in unseen_cases(folded, own)] == ["later"]


def test_a_label_of_another_value_is_refused(folded, others):
    table = others.parent / "others.csv"
    rows = ["id,image,label,labels", "case6,others/images/case6.nii,others/labels/case6.nii,background=0;blob=2"]
    table.write_text("\n".join(rows) + "\n")
    with pytest.raises(DatasetError, match=r"blob is 2 in .* but 1 in the run"):
        unseen_cases(folded, table)
    table.write_text("\n".join(rows).replace("blob=2", "blob=1") + "\n")
    assert [case.id for case in unseen_cases(folded, table)] == ["case6"]


def test_another_scan_of_a_patient_was_seen(folded, others):
    (folded / "training.yaml").write_text("group_by: '[a-z]+'\n")
    for kind in ("images", "labels"):
        (others / kind / "case7.nii").rename(others / kind / "other7.nii")
    assert [case.id for case in unseen_cases(folded, others)] == ["other7"]


def test_the_dice_of_one_and_two_folds_is_that_of_their_predictions(folded, others):
    with pytest.raises(ConfigError, match="was not cross-validated"):
        measure_folds(folded, unseen_cases(folded, others), device="cpu")
    before = cross_validate(folded, device="cpu").postprocessing
    assert before.reasons["folds averaged"].startswith("all, not decided")
    cases, steps = unseen_cases(folded, others), []
    decided = measure_folds(folded, cases, device="cpu", progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert load_bundle(folded).postprocessing == decided
    *_, one, two = decided.prediction.measured
    assert [(row.folds, row.cases, row.measured_on) for row in (one, two)] == [(1, 2, "unseen"), (2, 2, "unseen")]
    assert decided.prediction.folds is None  # two cases are too few
    assert two.used
    for row, folds in ((one, [0]), (two, [0, 1])):
        segmenter, dice = Segmenter.load(folded, folds=folds, device="cpu"), []
        for case in cases:
            image, label = read_case(case)
            mask = segmenter.predict(image).segmentation.array[0]
            dice.append(case_dice(dice_case(label.array[0], mask, segmenter.plan).values()))
        assert row.dice == pytest.approx(np.mean(dice), abs=1e-5)
    again = cross_validate(folded, device="cpu").postprocessing
    assert again.prediction == decided.prediction
    assert again.reasons["folds averaged"] == decided.reasons["folds averaged"]
    text = Path(folded / "cross_validation" / "report.html").read_text(encoding="utf-8")
    assert "2 unseen" in text


def test_a_case_that_cannot_be_read_is_named_and_counts_for_no_number_of_folds(folded, others):
    cross_validate(folded, device="cpu")
    cases = [case for case in read_dataset(others).labelled if case.id in ("case6", "case7")]
    cases[0].label.write_bytes(b"lost")
    failures = Failures()
    decided = measure_folds(folded, cases, device="cpu", failures=failures)
    assert [row.cases for row in decided.prediction.measured if row.measured_on == "unseen"] == [1, 1]
    assert failures.errors.keys() == {"case6"}
    assert decided.reasons["folds averaged"].endswith("; 1 cases could not be used")
