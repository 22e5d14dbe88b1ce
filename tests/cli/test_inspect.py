"""`attunet inspect` as a user sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from attunet.cli.inspect import inspect
from attunet.errors import DatasetError

RUNNER = CliRunner(env={"COLUMNS": "200"})
APP = typer.Typer()
APP.command()(inspect)


def make(root: Path, cases: int) -> Path:
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (root / name).mkdir()
    for index in range(cases):
        np.save(root / f"images/case{index:02}.npy", random.normal(size=(5, 6, 7)))
        np.save(root / f"labels/case{index:02}.npy", random.integers(0, 2, (5, 6, 7)) * 255)
    return root


def test_a_clean_set_is_shown_case_by_case(tmp_path):
    result = RUNNER.invoke(APP, [str(make(tmp_path, 2))])
    assert result.exit_code == 0
    for shown in ("plain layout, 2 cases", "case01", "5x6x7", "RAS", "255", "no spacing", "problems: 0, warnings: 2"):
        assert shown in result.output


def test_many_cases_are_summarised_unless_requested(tmp_path):
    make(tmp_path, 21)
    assert "case07" not in RUNNER.invoke(APP, [str(tmp_path)]).output
    assert "case07" in RUNNER.invoke(APP, [str(tmp_path), "--cases"]).output


def test_problems_are_named_with_their_remedy_and_exit_code_1(tmp_path):
    make(tmp_path, 2)
    (tmp_path / "labels/case00.npy").unlink()
    result = RUNNER.invoke(APP, [str(tmp_path)])
    assert result.exit_code == 1
    for shown in ("case00", "label missing", "add its mask", "problems: 1"):
        assert shown in result.output


def test_json_is_complete_and_strict(tmp_path):
    make(tmp_path, 3)
    np.save(tmp_path / "images/case00.npy", np.full((5, 6, 7), np.nan))
    result = RUNNER.invoke(APP, [str(tmp_path), "--json"])
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert (content["clean"], content["layout"], content["cases_found"]) == (False, "plain", 3)
    assert content["cases"][0]["intensity"] is None
    assert set(content["cases"][1]["labels"]) == {"0", "255"}
    assert {"case", "kind", "message", "remedy", "severity"} == set(content["problems"][0])


def test_regions_and_partly_labelled_cases_are_shown(tmp_path):
    make(tmp_path, 2)
    labels = {"background": 0, "whole": [1, 255], "core": 255}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "regions_class_order": [1, 255]}))
    shown = RUNNER.invoke(APP, [str(tmp_path)]).output
    assert re.search(r"whole +1, 255 ", shown)
    assert json.loads(RUNNER.invoke(APP, [str(tmp_path), "--json"]).stdout)["regions"] == {
        "whole": [1, 255],
        "core": [255],
    }
    rows = [f"images/case0{index}.npy,labels/case0{index}.npy,{drawn}" for index, drawn in enumerate(["255", ""])]
    (tmp_path / "cases.csv").write_text("\n".join(["image,label,labels", *rows]))
    assert "1 partially annotated" in RUNNER.invoke(APP, [str(tmp_path / "cases.csv")]).output
    content = json.loads(RUNNER.invoke(APP, [str(tmp_path / "cases.csv"), "--json"]).stdout)
    assert content["partly_labelled"] == {"case00": ["label_255"]}


def test_the_geometry_policy_is_passed_on(tmp_path):
    make(tmp_path, 1)
    np.save(tmp_path / "labels/case00.npy", np.indices((5, 6, 8), np.uint8)[0] // 3)
    assert RUNNER.invoke(APP, [str(tmp_path)]).exit_code == 1
    assert RUNNER.invoke(APP, [str(tmp_path), "--geometry", "resample"]).exit_code == 0
    assert RUNNER.invoke(APP, [str(tmp_path), "--geometry", "guess"]).exit_code == 2


def test_no_data_set_is_an_error(tmp_path):
    result = RUNNER.invoke(APP, [str(tmp_path / "none")])
    with pytest.raises(DatasetError, match="no file or folder"):
        raise result.exception


def test_problems_of_one_kind_are_one_row_unless_requested(tmp_path):
    make(tmp_path, 5)
    for label in (tmp_path / "labels").iterdir():
        label.unlink()
    np.save(tmp_path / "labels/case04.npy", np.zeros((5, 6, 7), np.uint8))
    output = RUNNER.invoke(APP, [str(tmp_path)]).output
    assert "case00 and 3 more" in output
    assert output.count("label missing") == 1
    assert "--cases lists every one" in output
    assert RUNNER.invoke(APP, [str(tmp_path), "--cases"]).output.count("label missing") == 4


def test_the_rule_is_shown_and_written_as_csv(tmp_path):
    (tmp_path / "data").mkdir()
    make(tmp_path / "data", 2)
    (tmp_path / "data/extra").mkdir()
    np.save(tmp_path / "data/extra/note.npy", np.ones((5, 6, 7)))
    table = tmp_path / "cases.csv"
    result = RUNNER.invoke(APP, [str(tmp_path / "data"), "--write-csv", str(table)])
    assert "case = images/{id}.npy, label = labels/{id}.npy" in result.output
    assert "extra/note.npy" in result.output
    rule = json.loads(RUNNER.invoke(APP, [str(tmp_path / "data"), "--json"]).output)["rule"]
    assert rule["left_out"][0]["files"] == ["extra/note.npy"]
    again = json.loads(RUNNER.invoke(APP, [str(table), "--json"]).output)
    assert [case["id"] for case in again["cases"]] == ["case00", "case01"]


def test_patterns_state_the_names(tmp_path):
    make(tmp_path, 2)
    result = RUNNER.invoke(
        APP, [str(tmp_path), "--pattern", "images/case{id}", "--label-pattern", "labels/case{id}", "--json"]
    )
    assert [case["id"] for case in json.loads(result.output)["cases"]] == ["00", "01"]
