"""`attunet info`: this machine, or a model."""

from __future__ import annotations

import json
import shutil

from attunet.bundle import save_manifest
from attunet.cli.info import info
from attunet.errors import BundleError


def test_the_machine(invoke):
    facts = json.loads(invoke(info, "--json").stdout)
    assert facts["devices"]["cpu"].startswith("openvino")
    assert {"attunet", "openvino", "torch"} <= facts["versions"].keys()
    table = invoke(info)
    assert table.exit_code == 0
    assert facts["versions"]["openvino"] in table.stdout


def test_a_model(tiny_run, invoke):
    facts = json.loads(invoke(info, tiny_run, "--json").stdout)
    assert facts["labels"] == {"background": 0, "body": 1, "lesion": 7}
    assert facts["network"] == "default, 3-D, gate grid, size base"
    assert facts["patch size"] == [16, 12, 8]
    assert facts["folds"] == {"fold_0": "not validated", "fold_1": "not validated"}
    table = invoke(info, tiny_run).stdout
    for text in ("channel 0", "lesion: 7", "fold_1: not validated"):
        assert text in table


def test_the_scores_of_a_model(tiny_run, tmp_path, invoke):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    mean = {"1": {"Dice": 0.87654321}, "7": {"Dice": None}}
    content = {"labels": {"body": 1, "lesion": 7}, "mean": mean}
    (model / "fold_0" / "metrics.json").write_text(json.dumps(content))
    save_manifest(model)
    assert json.loads(invoke(info, model, "--json").stdout)["folds"]["fold_0"] == {"body": 0.8765}


def test_what_is_no_model(tmp_path, invoke):
    assert isinstance(invoke(info, tmp_path).exception, BundleError)


def test_names_are_no_markup(make_model, invoke):
    model = make_model(2, labels={"background": 0, "[red]": 1, "[/x]": 2})
    shown = invoke(info, model).stdout
    assert "[red]: 1" in shown
    assert "[/x]: 2" in shown
