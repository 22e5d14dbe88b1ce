"""`attunet info`: this machine, or a model."""

from __future__ import annotations

import json
import shutil

from attunet.bundle import Execution, Quantization, save_ensemble, save_execution, save_manifest, save_postprocessing
from attunet.cli.info import info
from attunet.config import (
    ComponentRules,
    Evidence,
    MeasuredPrediction,
    Postprocessing,
    PredictionChoice,
    QualityCalibration,
)
from attunet.errors import BundleError
from attunet.training.run_folder import default_store


def test_the_machine(invoke):
    facts = json.loads(invoke(info, "--json").stdout)
    assert facts["devices"]["cpu"].startswith("openvino")
    assert {"attunet", "openvino", "torch"} <= facts["versions"].keys()
    table = invoke(info)
    assert table.exit_code == 0
    assert facts["versions"]["openvino"] in table.stdout


def test_what_trainings_left_behind_is_counted(tmp_path, monkeypatch, invoke):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    assert json.loads(invoke(info, "--json").stdout)["prepared cases"].startswith("0 in ")
    case = default_store() / "case"
    case.mkdir(parents=True)
    (case / "contents.json").touch()
    (case / "image.b2nd").write_bytes(bytes(2 * 10**8))
    assert "1 in " in (told := json.loads(invoke(info, "--json").stdout)["prepared cases"])
    assert "0.2 GB" in told


def test_a_model(tiny_run, invoke):
    facts = json.loads(invoke(info, tiny_run, "--json").stdout)
    assert facts["labels"] == {"background": 0, "body": 1, "lesion": 7}
    assert facts["network"] == "default, 3-D, gate grid, size base"
    assert facts["patch size"] == [16, 12, 8]
    assert facts["computed by"] == "openvino, bf16 where the CPU has it"
    assert facts["folds"] == {"fold_0": "no scores in this folder", "fold_1": "no scores in this folder"}
    table = invoke(info, tiny_run).stdout
    for text in ("channel 0", "lesion: 7", "fold_1: no scores in this folder"):
        assert text in table


def test_the_scores_of_a_model(tiny_run, tmp_path, invoke):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    mean = {"1": {"Dice": 0.87654321}, "7": {"Dice": None}}
    content = {"labels": {"body": 1, "lesion": 7}, "mean": mean}
    (model / "fold_0" / "metrics.json").write_text(json.dumps(content))
    save_manifest(model)
    assert json.loads(invoke(info, model, "--json").stdout)["folds"]["fold_0"] == {"body": 0.8765}


def test_a_model_in_whole_numbers_says_what_it_cost(tiny_run, tmp_path, invoke):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    tried = Quantization(kept=True, dice_before=0.9, dice_after=0.899, cases=4, patches=8)
    save_execution(Execution(quantization=tried), model)
    facts = json.loads(invoke(info, model, "--json").stdout)
    assert facts["computed by"] == "openvino, 8-bit integers (Dice 0.9000 before, 0.8990 after, 4 cases)"


def test_what_is_no_model(tmp_path, invoke):
    assert isinstance(invoke(info, tmp_path).exception, BundleError)


def test_names_are_no_markup(make_model, invoke):
    model = make_model(2, labels={"background": 0, "[red]": 1, "[/x]": 2})
    shown = invoke(info, model).stdout
    assert "[red]: 1" in shown
    assert "[/x]: 2" in shown


def test_the_members_of_an_ensemble(tiny_run, make_model, tmp_path, invoke):
    save_ensemble({"deep": tiny_run, "flat": make_model(2)}, Postprocessing(), tmp_path / "both")
    facts = json.loads(invoke(info, tmp_path / "both", "--json").stdout)
    assert facts["labels"] == {"background": 0, "body": 1, "lesion": 7}
    assert facts["members"]["flat"]["network"] == "default, 2-D, gate grid, size base"
    assert list(facts["members"]["deep"]["folds"]) == ["fold_0", "fold_1"]
    assert "labels" not in facts["members"]["deep"]
    assert "2-D" in invoke(info, tmp_path / "both").stdout


def test_the_results_of_a_cross_validation(tiny_run, make_interval, tmp_path, invoke):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    quality = QualityCalibration(cases=9, spearman=0.7, low=0.4, high=0.9, error=0.02)
    cleaning = {"body": ComponentRules(largest_component=True)}
    learnt = {"temperature": 1.4, "quality": quality, "volume_intervals": {"body": make_interval()}}
    save_postprocessing(Postprocessing(components=cleaning, **learnt), model)
    facts = json.loads(invoke(info, model, "--json").stdout)
    assert facts["prediction intervals"]["body"].startswith("90% from 40 held-out cases: 1.800 to 2.200 for 2.000 ml;")
    assert "contains 90% of them leaving out each case (small 90%, medium 85%, large 95%)" in invoke(info, model).stdout
    assert facts["prediction intervals"]["lesion"].startswith("none: there are no held-out cases")
    assert facts["post-processing"] == {"body": {"largest_component": True}}
    assert facts["temperature"] == 1.4
    assert facts["predicted Dice"].endswith("on 9 held-out cases: 0.70 (0.40 to 0.90)")


def test_dice_against_seconds_is_a_table(tiny_run, tmp_path, invoke):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    rows = (
        MeasuredPrediction(folds=1, copies=1, cases=14, dice=0.46, seconds=1.1, used=True),
        MeasuredPrediction(folds=1, copies=8, cases=14, dice=0.461, gain=0.001, low=-0.002, high=0.004, seconds=7.5),
        MeasuredPrediction(folds=5, copies=1, cases=0, measured_on="unseen", seconds=5.5),
    )
    chosen = PredictionChoice(mirror=False, measured=rows)
    reasons = {"mirroring": "off: because"}
    evidence = Evidence(cases=14, folds=(0, 1))
    save_postprocessing(Postprocessing(prediction=chosen, evidence=evidence, reasons=reasons), model)
    facts = json.loads(invoke(info, model, "--json").stdout)
    assert facts["decided on"] == "14 held-out cases of 2 folds"
    assert facts["mirroring"] == "off: because"
    assert facts["Dice against seconds"][0] == rows[0].model_dump()
    shown = invoke(info, model).stdout
    for text in ("Dice against seconds", "0.4600", "about 5.5", "none that no fold has seen", "off: because"):
        assert text in shown.replace("\n", " ")
