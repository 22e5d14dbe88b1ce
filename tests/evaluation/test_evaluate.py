import json
from pathlib import Path
from threading import Event

import nibabel
import numpy as np
import pytest
import tifffile

from attunet.data import formats
from attunet.data.volume import Volume
from attunet.errors import CancelledError, DatasetError, GeometryError, LabelError
from attunet.evaluation.evaluate import declared_labels, evaluate
from attunet.evaluation.pairs import match

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


def test_a_file_without_a_spacing_is_measured_with_that_of_the_other(tmp_path: Path) -> None:
    known, unknown = tmp_path / "known", tmp_path / "unknown"
    for folder in (known, unknown):
        folder.mkdir()
    pages = np.moveaxis(cube(1), 2, 0)
    sizes = {"PhysicalSizeX": 10.0, "PhysicalSizeY": 10.0, "PhysicalSizeZ": 10.0}  # micrometres
    tifffile.imwrite(known / "a.tif", pages, ome=True, metadata={"axes": "ZYX", **sizes})
    tifffile.imwrite(unknown / "a.tif", np.moveaxis(cube(1, 3, 6), 2, 0), photometric="minisblack")
    one, other = evaluate(known, unknown), evaluate(unknown, known)
    assert one.mean("1", "HD95") == other.mean("1", "HD95") == pytest.approx(0.01)


def test_names_come_from_dataset_json(folders: tuple[Path, Path]) -> None:
    (folders[0].parent / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "ignore": 2}}))
    summary = evaluate(*folders)
    assert dict(summary.labels) == {"liver": 1}
    assert summary.cases[1].scores["liver"].counts.tn == 8 * 8 * 6 - 27


def test_given_labels_are_the_ones_scored(folders: tuple[Path, Path]) -> None:
    summary = evaluate(*folders, labels={"background": 0, "spleen": 2, "tumour": 3})
    assert dict(summary.labels) == {"spleen": 2, "tumour": 3}
    assert summary.empty("tumour")["both"] == 2


def test_masks_without_a_common_label_are_refused_and_can_be_merged(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 255)):
        write(tmp_path / f"{name}/x.nii.gz", cube(value))
    with pytest.raises(LabelError, match="references hold 1, the predictions 255"):
        evaluate(tmp_path / "a", tmp_path / "b")
    assert evaluate(tmp_path / "a", tmp_path / "b", labels={"lesion": (1, 255)}).mean("lesion") == 1.0
    write(tmp_path / "b/x.nii.gz", cube(0))
    assert evaluate(tmp_path / "a", tmp_path / "b").mean("1") == 0.0


def test_labels_that_no_mask_holds_are_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(LabelError, match=r"no mask holds a label to score, tumour \(9\); they hold 1, 2"):
        evaluate(*folders, labels={"tumour": 9})
    for folder, suffix in zip(folders, (".nii.gz", ".nii"), strict=True):
        write(folder / "a.nii.gz", cube(0))
        write(folder / f"b{suffix}", cube(0))
    assert evaluate(*folders, labels={"tumour": 9}).empty("tumour")["both"] == 2


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


def test_progress_is_reported_case_by_case(folders: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(*folders, progress=lambda done, every: seen.append((done, every)))
    assert seen == [(1, 2), (2, 2)]


def test_other_shape_names_the_case(folders: tuple[Path, Path]) -> None:
    write(folders[1] / "a.nii.gz", cube(1)[:7])
    with pytest.raises(GeometryError, match=r"case a.*shape"):
        evaluate(*(folder / "a.nii.gz" for folder in folders))


def test_a_case_that_cannot_be_scored_is_listed_and_the_others_are_scored(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = formats.read_label

    def broken(path: Path, **how: str | None) -> Volume:
        if path.name == "a.nii.gz":
            raise KeyError("a reader's own mistake")
        return read(path, **how)

    monkeypatch.setattr(formats, "read_label", broken)
    summary = evaluate(*folders)
    assert [case.case for case in summary.cases] == ["b"]
    assert summary.failed.keys() == {"a"}
    assert "KeyError" in summary.failed["a"]
    assert summary.to_dict()["failed"] == summary.failed


def test_other_place_names_the_case(folders: tuple[Path, Path]) -> None:
    turned = AFFINE.copy()
    turned[0, 0] = -1.05
    write(folders[1] / "a.nii.gz", cube(1), turned)
    with pytest.raises(GeometryError, match=r"case a .* 0.35 mm apart"):
        evaluate(*(folder / "a.nii.gz" for folder in folders))


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


def test_labels_that_are_not_annotated_are_not_scored(folders: tuple[Path, Path]) -> None:
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


def test_an_evaluation_can_be_cancelled(folders: tuple[Path, Path]) -> None:
    cancelled = Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        evaluate(*folders, cancelled=cancelled)


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


def test_references_are_the_labels_of_a_data_set_where_names_differ(tmp_path: Path) -> None:
    for case in ("p1", "p2"):
        write(tmp_path / f"data/{case}/{case}_flair.nii.gz", cube())
        write(tmp_path / f"data/{case}/{case}_seg.nii.gz", cube())
    write(tmp_path / "guess/p1.nii.gz", cube())
    assert evaluate(tmp_path / "data", tmp_path / "guess").values("1") == {"p1": 1.0, "p2": 0.0}


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
def test_nothing_to_compare_is_reported(reference: str, prediction: str, message: str, tmp_path: Path) -> None:
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
    with pytest.raises(DatasetError, match="not valid JSON"):
        declared_labels(reference)
