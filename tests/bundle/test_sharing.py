"""A copy of a run predicts the same, and names no case and no folder of the machine it was trained on."""

from __future__ import annotations

import json

import pytest
import yaml

from attunet.bundle import copy_run, fold_folder, load_bundle, save_manifest, save_plan, save_postprocessing
from attunet.config import Postprocessing, TrainingConfig
from attunet.data.folds import Split
from attunet.errors import BundleError, FormatError

CASES = ("patient_ann", "patient_bob", "patient_eve")
SCORES = {
    "foreground_mean": {"Dice": 0.8},
    "mean": {"1": {"Dice": 0.8}},
    "labels": {"blob": 1},
    "metric_per_case": [
        {
            "case": case,
            "reference_file": f"/data/secret/{case}.nii.gz",
            "prediction_file": None,
            "missing": False,
            "metrics": {"1": {"Dice": score}},
        }
        for case, score in zip(CASES, (0.7, 0.8, 0.9), strict=True)
    ],
    "missing_predictions": [CASES[1]],
    "extra_predictions": [],
}


@pytest.fixture
def run(tmp_path, make_plan_of):
    """A finished fold as training leaves it, with all that it holds of patients."""
    root, folder = tmp_path / "run", fold_folder(tmp_path / "run", 0)
    (folder / "attention_frames").mkdir(parents=True)
    save_plan(make_plan_of(), root)
    for name in ("weights.safetensors", "graph.xml", "graph.bin", "curves.png", "report.html"):
        (folder / name).write_text(f"of {CASES[0]}" if name == "report.html" else name)
    (folder / "metrics.json").write_text(json.dumps(SCORES))
    (folder / "attention_frames" / f"{CASES[0]}_image.nii.gz").write_text("a small scan")
    config = TrainingConfig(init_weights="/data/secret/earlier/run")
    (root / "training.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    (root / "folds.yaml").write_text(yaml.safe_dump({0: {"train": list(CASES[:2]), "validation": [CASES[2]]}}))
    Split(tmp_path / "secret", "fail", CASES[:2], CASES[2:]).write(folder)
    save_manifest(root)
    save_postprocessing(Postprocessing(temperature=1.5), root)
    return root


def test_a_copy_is_the_same_model(run, tmp_path):
    copy_run(run, tmp_path / "copy")
    one, other = load_bundle(run), load_bundle(tmp_path / "copy")
    assert (one.plan, one.postprocessing) == (other.plan, other.postprocessing)
    assert [fold.name for fold in one.folds] == [fold.name for fold in other.folds]


def test_a_copy_holds_nothing_of_the_patients(run, tmp_path):
    copy_run(run, tmp_path / "copy")
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        *("plan.json", "training.yaml", "postprocessing.json", "manifest.json"),
        *("weights.safetensors", "graph.xml", "graph.bin", "metrics.json"),
    }
    for path in files:
        text = f"{path.relative_to(tmp_path / 'copy')} {path.read_text()}"
        assert not [word for word in (*CASES, "secret", str(tmp_path)) if word in text], path.name
    scores = json.loads((fold_folder(tmp_path / "copy", 0) / "metrics.json").read_text())
    assert [entry["metrics"]["1"]["Dice"] for entry in scores["metric_per_case"]] == [0.7, 0.8, 0.9]
    assert scores["missing_predictions"] == ["case_2"]
    assert scores["mean"] == SCORES["mean"]


def test_what_needs_the_cases_says_where_they_are(run, tmp_path):
    copy_run(run, tmp_path / "copy")
    with pytest.raises(FormatError, match="lists the cases") as refused:
        Split.read(fold_folder(tmp_path / "copy", 0))
    assert "--keep-cases" in refused.value.hint


def test_the_cases_are_kept_on_request(run, tmp_path):
    copy_run(run, tmp_path / "copy", keep_cases=True)
    split = Split.read(fold_folder(tmp_path / "copy", 0))
    assert split.train + split.validation == CASES
    assert json.loads((fold_folder(tmp_path / "copy", 0) / "metrics.json").read_text()) == SCORES
    assert not list((tmp_path / "copy").rglob("*.nii.gz"))
    load_bundle(tmp_path / "copy")


@pytest.mark.parametrize("name", ["training.yaml", "fold_0/split.yaml"])
def test_a_link_to_another_file_is_not_copied(name, run, tmp_path):
    (tmp_path / "key").write_text("a: secret of the user")
    (run / name).unlink()
    (run / name).symlink_to(tmp_path / "key")
    with pytest.raises(BundleError, match="leads out of the model folder"):
        copy_run(run, tmp_path / "copy", keep_cases=True)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"metric_per_case": [{}]}'])
def test_scores_that_cannot_be_read_are_named(content, run, tmp_path):
    (fold_folder(run, 0) / "metrics.json").write_text(content)
    save_manifest(run)
    with pytest.raises(BundleError, match=r"cannot read .*metrics\.json"):
        copy_run(run, tmp_path / "copy")


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "just words"])
def test_a_recipe_that_cannot_be_read_is_named(content, run, tmp_path):
    (run / "training.yaml").write_text(content)
    with pytest.raises(BundleError, match=r"cannot read .*training\.yaml"):
        copy_run(run, tmp_path / "copy")
