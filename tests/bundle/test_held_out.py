import pytest

from attunet.bundle import finished_folds, fold_cases, fold_folder, held_out_cases
from attunet.data.folds import Split
from attunet.errors import BundleError, DatasetError


def test_folds_and_their_cases_are_found_again(folded):
    assert finished_folds(folded) == (0, 1)
    assert [case.id for case in fold_cases(folded, 1)] == ["case1", "case3", "case5"]


def test_no_model_no_folds(tmp_path):
    with pytest.raises(BundleError, match="no model"):
        finished_folds(tmp_path / "nothing")


def test_a_data_set_that_moved_is_reported(folded):
    root = Split.read(fold_folder(folded, 0)).dataset
    root.rename(root.parent / "elsewhere")
    with pytest.raises(DatasetError, match="does not exist") as caught:
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
    assert notices == ("fold 0 is left out: it was validated on its own training cases",)


def test_without_held_out_cases_there_is_nothing_to_learn(folded):
    for index in (0, 1):
        split = Split.read(fold_folder(folded, index))
        Split(split.dataset, "fail", split.validation, split.validation).write(fold_folder(folded, index))
    with pytest.raises(DatasetError, match="held-out"):
        held_out_cases(folded)
