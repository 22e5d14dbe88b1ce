"""Existing runs compared on the cases held out of all of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from threading import Event

import pytest
import yaml

from attunet.bundle import fold_folder, load_bundle, save_manifest
from attunet.config import TrainingConfig
from attunet.data.folds import Split
from attunet.errors import CancelledError, ConfigError, DatasetError
from attunet.inference.segmenter import Segmenter
from attunet.planning.layers import count_parameters
from attunet.selection.comparison import common_folds, compare_runs, shared_cases, write_comparison

LABELS = {"background": 0, "blob": 1}


@pytest.fixture(scope="session")
def plain_run(make_model):
    return make_model(3, folds=2, labels=LABELS, gate=None)


@pytest.fixture
def runs(make_folded, plain_run, tmp_path):
    """A gated and an ungated run of the same two folds."""
    gated = make_folded(tmp_path)
    plain = shutil.copytree(plain_run, tmp_path / "plain")
    for fold in (0, 1):
        Split.read(fold_folder(gated, fold)).write(fold_folder(plain, fold))
    return {"gated": gated, "plain": plain}


def change_split(run, fold, **changes):
    folder = fold_folder(run, fold)
    replace(Split.read(folder), **changes).write(folder)


def remove_fold(run, fold):
    shutil.rmtree(fold_folder(run, fold))
    save_manifest(run)


def write_training(run, steps=(40, 38), **settings):
    content = TrainingConfig(**settings).model_dump(mode="json")
    (run / "training.yaml").write_text(yaml.safe_dump(content))
    for fold, count in enumerate(steps):
        log = f"epoch,step,minutes,loss\n0,1,0.1,1.5\n1,{count},{fold + 1},1.0\n"
        (fold_folder(run, fold) / "log.csv").write_text(log)


def test_runs_are_evaluated_on_all_held_out_cases_and_nothing_is_predicted_twice(runs, tmp_path, monkeypatch):
    seen = []
    found = compare_runs(runs, tmp_path / "out", device="cpu", progress=lambda *counts: seen.append(counts))
    assert seen == [(done, 12) for done in range(1, 13)]
    gated, plain = found.models
    assert [case.case for case in gated.summary.cases] == [case.case for case in plain.summary.cases]
    assert found.cases == 6
    assert found.folds == (0, 1)
    assert (gated.gate, plain.gate) == ("grid", None)
    assert gated.parameters > plain.parameters == count_parameters(load_bundle(runs["plain"]).plan.network)
    assert gated.flops > plain.flops > 0
    assert gated.steps == {}
    monkeypatch.setattr(Segmenter, "predict", lambda *_, **__: pytest.fail("it was predicted already"))
    again = compare_runs(runs, tmp_path / "out", device="cpu")
    assert again.differences == found.differences


def test_a_comparison_can_be_cancelled_and_resumed(runs, tmp_path):
    cancelled, seen = Event(), []
    with pytest.raises(CancelledError):
        compare_runs(runs, tmp_path / "out", device="cpu", progress=lambda *_: cancelled.set(), cancelled=cancelled)
    assert len(list((tmp_path / "out" / "held_out" / "gated").iterdir())) == 1
    compare_runs(runs, tmp_path / "out", device="cpu", progress=lambda *counts: seen.append(counts))
    assert len(seen) == 12


def test_results_of_earlier_versions_are_read(runs, tmp_path, monkeypatch):
    first = compare_runs(runs, tmp_path / "out", device="cpu")
    (tmp_path / "out" / "held_out").rename(tmp_path / "out" / "judged")
    monkeypatch.setattr(Segmenter, "predict", lambda *_, **__: pytest.fail("it was predicted already"))
    assert compare_runs(runs, tmp_path / "out", device="cpu").differences == first.differences


def test_it_is_written_as_report_and_numbers(runs, tmp_path):
    found = compare_runs(runs, tmp_path / "out", device="cpu", descriptions={"plain": "no gates"})
    write_comparison(found, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert content["conclusion"] == found.conclusion
    assert content["models"][1]["description"] == "no gates"
    assert found.conclusion in (tmp_path / "out" / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")


def test_steps_minutes_and_budget_are_reported(runs, tmp_path):
    for run in runs.values():
        write_training(run, max_time=60.0)
    found = compare_runs(runs, tmp_path / "out", device="cpu")
    assert found.baseline.steps == {0: 40, 1: 38}
    assert found.baseline.minutes == {0: 1.0, 1: 2.0}
    assert found.baseline.budget == "1 min per fold"
    assert "limited by time, 1 min per fold" in found.notes[0]
    write_training(runs["plain"], epochs=3)
    (note,) = compare_runs(runs, tmp_path / "out", device="cpu").notes
    assert "different training budgets" in note
    assert "plain: 3 epochs of 50 steps per fold" in note
    write_training(runs["gated"], epochs=3)
    assert "limited by steps" in compare_runs(runs, tmp_path / "out", device="cpu").notes[0]


def test_only_cases_held_out_of_every_run_are_shared(runs):
    split = Split.read(fold_folder(runs["plain"], 1))
    shutil.rmtree(fold_folder(runs["plain"], 0))
    save_manifest(runs["plain"])
    replace(split, train=("case1", "case2", "case4"), validation=("case0", "case3")).write(
        fold_folder(runs["plain"], 1)
    )
    shared = shared_cases(runs)
    assert [(one["gated"].fold, one["plain"].fold, one["gated"].case.id) for one in shared] == [
        (0, 1, "case0"),
        (1, 1, "case3"),
    ]
    with pytest.raises(ConfigError, match="no case is held out of all runs: gated has folds 0, 1; plain has"):
        shared_cases(runs, folds=[0])


def test_only_folds_that_all_have_finished_are_compared(runs):
    assert common_folds(runs) == (0, 1)
    remove_fold(runs["plain"], 1)
    assert common_folds(runs) == (0,)
    remove_fold(runs["gated"], 0)
    with pytest.raises(ConfigError, match="no finished fold in common: gated has 1; plain has 0"):
        common_folds(runs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": ("case1",)}, "validated fold 1 on different cases, such as case3, case5"),
        ({"validation": ("case0", "case1")}, "validated on its own training cases"),
        ({"dataset": "elsewhere"}, "trained on different data sets"),
    ],
)
def test_folds_that_differ_are_refused(changes, message, runs, tmp_path):
    if "dataset" in changes:
        changes = {"dataset": tmp_path / "elsewhere"}
    change_split(runs["plain"], 1, **changes)
    with pytest.raises(ConfigError, match=message) as refused:
        common_folds(runs)
    assert refused.value.hint


def test_different_folds_are_noted(runs, tmp_path):
    split = Split.read(fold_folder(runs["plain"], 1))
    replace(split, train=("case0", "case2")).write(fold_folder(runs["plain"], 1))
    assert "different folds" in compare_runs(runs, tmp_path / "out", device="cpu").notes[-1]


def test_runs_of_another_task_or_data_set_are_refused(runs, tiny_run, tmp_path):
    with pytest.raises(ConfigError, match="differ in their labels"):
        compare_runs({**runs, "other": tiny_run}, tmp_path / "out", device="cpu")
    for fold in (0, 1):
        folder = fold_folder(runs["plain"], fold)
        replace(Split.read(folder), dataset=tmp_path / "elsewhere").write(folder)
    with pytest.raises(ConfigError, match="trained on different data sets"):
        compare_runs(runs, tmp_path / "out", device="cpu")


def test_a_run_without_held_out_cases_is_refused(runs, tmp_path):
    for fold in (0, 1):
        folder = fold_folder(runs["plain"], fold)
        split = Split.read(folder)
        replace(split, train=split.validation).write(folder)
    with pytest.raises(DatasetError, match="held-out cases"):
        compare_runs(runs, tmp_path / "out", device="cpu")
