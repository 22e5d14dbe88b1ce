import shutil

import nibabel
import numpy as np
import pytest

from attunet.bundle import fold_folder
from attunet.data.folds import Split
from attunet.errors import BundleError, DatasetError
from attunet.inference.segmenter import Segmenter
from attunet.selection.out_of_fold import finished_folds, fold_cases, held_out_cases, predict_held_out
from attunet.selection.samples import Sample


def predicted(run):
    cases, _ = held_out_cases(run)
    steps = []
    predict_held_out(run, cases, device="cpu", advance=lambda: steps.append(1))
    assert len(steps) == len(cases)
    return cases


def test_folds_and_their_cases_are_found_again(folded):
    assert finished_folds(folded) == (0, 1)
    assert [case.id for case in fold_cases(folded, 1)] == ["case1", "case3", "case5"]


def test_no_model_no_folds(tmp_path):
    with pytest.raises(BundleError, match="no model"):
        finished_folds(tmp_path / "nothing")


def test_a_data_set_that_moved_is_said(folded):
    root = Split.read(fold_folder(folded, 0)).dataset
    root.rename(root.parent / "elsewhere")
    with pytest.raises(DatasetError, match="not there") as caught:
        fold_cases(folded, 0)
    assert "split.yaml" in caught.value.hint


def test_a_case_that_is_gone_is_named(folded):
    root = Split.read(fold_folder(folded, 0)).dataset
    (root / "labels" / "case2.nii").unlink()
    with pytest.raises(DatasetError, match=r"1 of the 3 labelled cases.*case2"):
        fold_cases(folded, 0)


def test_a_fold_that_saw_its_validation_cases_is_left_out(folded):
    split = Split.read(fold_folder(folded, 0))
    Split(split.dataset, "fail", split.validation, split.validation).write(fold_folder(folded, 0))
    cases, notices = held_out_cases(folded)
    assert {held.fold for held in cases} == {1}
    assert notices == ("fold 0 is left out: it was validated on cases that it was trained on",)


def test_without_unseen_cases_there_is_nothing_to_learn(folded):
    for index in (0, 1):
        split = Split.read(fold_folder(folded, index))
        Split(split.dataset, "fail", split.validation, split.validation).write(fold_folder(folded, index))
    with pytest.raises(DatasetError, match="not seen"):
        held_out_cases(folded)


def test_each_mask_is_what_its_own_fold_predicts(folded):
    for held in predicted(folded)[::2]:
        own = Segmenter.load(folded, folds=[held.fold], device="cpu", raw=True).predict(held.case)
        mask = nibabel.load(held.mask)
        assert np.array_equal(np.asarray(mask.dataobj), own.segmentation.array[0])
        sample = Sample.load(held.sample)
        assert np.allclose(sample.expected_at(1.0), own.expected_dice["blob"], atol=1e-4)


def test_what_is_done_is_done_again_only_after_more_training(folded):
    first, *others = predicted(folded)
    times = {held.case.id: held.sample.stat().st_mtime_ns for held in others}
    first.mask.unlink()
    predicted(folded)
    assert first.mask.exists()
    assert {held.case.id: held.sample.stat().st_mtime_ns for held in others} == times

    from attunet.bundle import save_manifest

    for name in ("weights.safetensors", "graph.xml", "graph.bin"):
        shutil.copy(fold_folder(folded, 0) / name, fold_folder(folded, 1) / name)
    save_manifest(folded)
    predicted(folded)
    again = {held.case.id for held in others if held.sample.stat().st_mtime_ns != times[held.case.id]}
    assert again == {"case1", "case3", "case5"}


def test_a_broken_sample_is_made_again(folded):
    first = predicted(folded)[0]
    first.sample.write_bytes(b"half")
    predicted(folded)
    assert Sample.load(first.sample) is not None
