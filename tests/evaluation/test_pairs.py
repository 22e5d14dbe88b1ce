import json
from pathlib import Path

import pytest

from attunet.errors import DatasetError
from attunet.evaluation.pairs import declared_labels, match


def folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


def test_files_are_matched_by_name_whatever_their_suffix(tmp_path: Path) -> None:
    reference = folder(tmp_path / "truth", "b.nii.gz", "a.nii.gz", "c.v2.nii.gz", "notes.txt", ".hidden.nii.gz")
    prediction = folder(tmp_path / "guess", "a.nii.gz", "b.mha", "c.v2.nrrd", "z.nii.gz", "summary.json")
    pairs, extra = match(reference, prediction)
    assert [(pair.case, pair.prediction.name if pair.prediction else None) for pair in pairs] == [
        ("a", "a.nii.gz"),
        ("b", "b.mha"),
        ("c.v2", "c.v2.nrrd"),
    ]
    assert extra == ["z"]


def test_missing_predictions_keep_their_place(tmp_path: Path) -> None:
    reference = folder(tmp_path / "truth", "a.nii.gz", "b.nii.gz")
    pairs, _ = match(reference, folder(tmp_path / "guess", "b.nii.gz"))
    assert [(pair.case, pair.prediction is None) for pair in pairs] == [("a", True), ("b", False)]


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    files = folder(tmp_path / "files", "truth.nii.gz", "guess.mha")
    pairs, extra = match(files / "truth.nii.gz", files / "guess.mha")
    assert [pair.case for pair in pairs] == ["truth"]
    assert extra == []


@pytest.mark.parametrize(
    ("reference", "prediction", "message"),
    [
        ("absent", "guess", "does not exist"),
        ("truth", "guess/x.nii.gz", "a file and a folder"),
        ("empty", "guess", "no label file"),
        ("truth", "guess", "none of the 1 files"),
        ("truth", "empty", "none of the 0 files"),
        ("double", "guess", "both case a"),
    ],
)
def test_nothing_to_compare_is_said(reference: str, prediction: str, message: str, tmp_path: Path) -> None:
    folder(tmp_path / "truth", "a.nii.gz")
    folder(tmp_path / "guess", "x.nii.gz")
    folder(tmp_path / "empty")
    folder(tmp_path / "double", "a.nii.gz", "a.mha")
    with pytest.raises(DatasetError, match=message) as caught:
        match(tmp_path / reference, tmp_path / prediction)
    assert caught.value.hint


def describe(folder_: Path, **description: object) -> None:
    (folder_ / "dataset.json").write_text(json.dumps(description))


@pytest.mark.parametrize("labels", [{"0": "background", "1": "liver"}, {"background": 0, "liver": 1}])
def test_both_spellings_of_dataset_json(labels: dict[str, object], tmp_path: Path) -> None:
    reference = folder(tmp_path / "labelsTr", "a.nii.gz")
    describe(tmp_path, labels=labels)
    for path in (reference, reference / "a.nii.gz"):
        assert declared_labels(path).names == {"background": 0, "liver": 1}


def test_regions_need_no_painting_order_to_be_scored(tmp_path: Path) -> None:
    reference = folder(tmp_path / "labelsTr", "a.nii.gz")
    describe(tmp_path, labels={"background": 0, "whole": [1, 2], "core": 2, "ignore": 3})
    declared = declared_labels(reference)
    assert (declared.regions, declared.ignore) == ({"whole": (1, 2), "core": (2,)}, 3)


def test_names_are_optional_but_not_broken(tmp_path: Path) -> None:
    reference = folder(tmp_path / "labelsTr", "a.nii.gz")
    assert declared_labels(reference).names == {}
    (reference / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="as JSON"):
        declared_labels(reference)
