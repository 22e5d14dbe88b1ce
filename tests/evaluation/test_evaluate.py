import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from attunet.errors import GeometryError
from attunet.evaluation import evaluate

AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])


def cube(value: int = 1, start: int = 2, stop: int = 5) -> np.ndarray:
    array = np.zeros((8, 8, 6), dtype=np.uint8)
    array[start:stop, 2:5, 1:4] = value
    return array


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    truth, guess = tmp_path / "labelsTr", tmp_path / "guess"
    write(truth / "a.nii.gz", cube(1))
    write(guess / "a.nii.gz", cube(1))
    write(truth / "b.nii.gz", cube(2))
    write(guess / "b.nii", cube(2, 3, 6))
    return truth, guess


def test_labels_are_found_over_all_cases(folders: tuple[Path, Path]) -> None:
    summary = evaluate(*folders)
    assert dict(summary.labels) == {"1": 1, "2": 2}
    assert summary.values("1") == {"a": 1.0}
    assert summary.mean("2") == pytest.approx(2 / 3)
    assert summary.mean("2", "MSD") > 0
    assert summary.empty("1") == {"both": 1, "reference_only": 0, "prediction_only": 0}
    assert summary.cases[1].scores["1"].counts.tn == 8 * 8 * 6


def test_names_come_from_dataset_json(folders: tuple[Path, Path]) -> None:
    (folders[0].parent / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "ignore": 2}}))
    summary = evaluate(*folders)
    assert dict(summary.labels) == {"liver": 1}
    assert summary.cases[1].scores["liver"].counts.tn == 8 * 8 * 6 - 27


def test_given_labels_are_the_ones_scored(folders: tuple[Path, Path]) -> None:
    summary = evaluate(*folders, labels={"background": 0, "spleen": 2, "tumour": 3})
    assert dict(summary.labels) == {"spleen": 2, "tumour": 3}
    assert summary.empty("tumour")["both"] == 2


def test_missing_and_surplus_predictions_are_named(folders: tuple[Path, Path]) -> None:
    truth, guess = folders
    (guess / "b.nii").rename(guess / "c.nii")
    summary = evaluate(truth, guess)
    assert summary.missing_predictions == ("b",)
    assert summary.extra_predictions == ("c",)
    assert summary.values("2") == {"b": 0.0}
    assert summary.mean("2", "HD95") == pytest.approx(np.linalg.norm([8, 8, 12]))


def test_two_files(folders: tuple[Path, Path]) -> None:
    summary = evaluate(folders[0] / "b.nii.gz", folders[1] / "b.nii")
    assert summary.mean("2") == pytest.approx(2 / 3)


def test_progress_is_told_case_by_case(folders: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(*folders, advance=lambda done, every: seen.append((done, every)))
    assert seen == [(1, 2), (2, 2)]


def test_other_shape_names_the_case(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "a.nii.gz", cube(1)[:7])
    with pytest.raises(GeometryError, match=r"case a.*shape"):
        evaluate(*folders)


def test_other_place_names_the_case(folders: tuple[Path, Path]) -> None:
    turned = AFFINE.copy()
    turned[0, 0] = -1.05
    write(folders[1] / "a.nii.gz", cube(1), turned)
    with pytest.raises(GeometryError, match=r"case a .* 0.35 mm apart"):
        evaluate(*folders)


def test_rounding_of_the_header_is_tolerated(folders: tuple[Path, Path]) -> None:
    moved = AFFINE.copy()
    moved[:3, 3] += 0.05
    write(folders[1] / "a.nii.gz", cube(1), moved)
    assert evaluate(*folders).mean("1") == 1.0


def test_regions_of_dataset_json_are_unions_on_both_sides(tmp_path: Path) -> None:
    truth, guess = tmp_path / "labelsTr", tmp_path / "guess"
    nested = cube(1, 1, 7)
    nested[3:5, 2:5, 1:4] = 3
    write(truth / "a.nii.gz", nested)
    write(guess / "a.nii.gz", np.where(nested == 1, 2, nested).astype(np.uint8))
    labels = {"background": 0, "whole": [1, 2, 3], "edema": [2], "core": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "regions_class_order": [1, 2, 3]}))
    summary = evaluate(truth, guess)
    assert {name: summary.mean(name) for name in summary.labels} == {"whole": 1.0, "edema": 0.0, "core": 1.0}
    assert list(summary.to_dict()["mean"]) == ["(1, 2, 3)", "2", "3"]


def test_labels_that_were_not_drawn_are_not_scored(folders: tuple[Path, Path]) -> None:
    summary = evaluate(*folders, annotated={"a": ("2",), "b": ("2",)})
    assert [list(case.scores) for case in summary.cases] == [["2"], ["2"]]
    partly = evaluate(*folders, annotated={"b": ("2",)})
    assert [list(case.scores) for case in partly.cases] == [["1", "2"], ["2"]]
    assert partly.empty("1")["both"] == 0


def test_a_declared_background_other_than_zero(tmp_path: Path) -> None:
    truth, guess = tmp_path / "labelsTr", tmp_path / "guess"
    membrane = np.where(cube(1) == 1, 0, 255).astype(np.uint8)
    for name in "ab":
        write(truth / f"{name}.nii.gz", membrane)
    write(guess / "a.nii.gz", membrane)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 255, "membrane": 0}}))
    assert evaluate(truth, guess).values("membrane") == {"a": 1.0, "b": 0.0}
    given = evaluate(truth, guess, labels={"background": 255, "membrane": 0})
    assert given.values("membrane") == {"a": 1.0, "b": 0.0}
