"""Runs and their ensembles on the cases that their folds have not seen."""

from __future__ import annotations

import shutil
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest

from attunet.bundle import fold_cases, fold_folder, save_ensemble, save_manifest
from attunet.config import Postprocessing
from attunet.data.cases import read_case
from attunet.data.folds import Split
from attunet.errors import ConfigError
from attunet.evaluation.scores import score_case
from attunet.inference.segmenter import Segmenter
from attunet.selection.candidates import EnsembleCandidate, Verdict, candidates_of
from attunet.selection.comparison import common_folds, judge_runs

LABELS = {"background": 0, "blob": 1}


@pytest.fixture(scope="session")
def flat_run(make_model):
    return make_model(2, folds=2, labels=LABELS)


@pytest.fixture
def runs(make_folded, flat_run, tmp_path):
    """A 3-D and a 2-D run of the same two folds."""
    deep = make_folded(tmp_path)
    flat = shutil.copytree(flat_run, tmp_path / "flat")
    for fold in (0, 1):
        Split.read(fold_folder(deep, fold)).write(fold_folder(flat, fold))
    return {"deep": deep, "flat": flat}


def change_split(run, fold, **changes):
    folder = fold_folder(run, fold)
    replace(Split.read(folder), **changes).write(folder)


def remove_fold(run, fold):
    shutil.rmtree(fold_folder(run, fold))
    save_manifest(run)


def verdict(*dice):
    return Verdict(dice, expected=0.5, agreement=nan, seconds=2.0)


def test_every_run_every_pair_and_all_are_candidates():
    assert candidates_of("ab") == [("a",), ("b",), ("a", "b")]
    assert [len(members) for members in candidates_of("abcd")] == [1] * 4 + [2] * 6 + [4]


def test_the_mean_dice_is_that_of_the_labels_means_and_absent_labels_do_not_count():
    candidate = EnsembleCandidate(("a", "b"), {"x": verdict(0.8, nan), "y": verdict(0.6, 0.4)})
    assert candidate.name == "a + b"
    assert candidate.mean_dice == pytest.approx((0.7 + 0.4) / 2)
    assert candidate.verdicts["x"].mean_dice == 0.8
    assert candidate.seconds == 2
    low, high = candidate.interval
    assert low <= candidate.mean_dice <= high


def test_each_case_is_judged_by_the_fold_that_has_not_seen_it(runs):
    seen = []
    found = judge_runs(runs, device="cpu", advance=lambda *counts: seen.append(counts))
    assert [candidate.members for candidate in found] == [("deep",), ("flat",), ("deep", "flat")]
    assert seen == [(done, 6) for done in range(1, 7)]
    deep, _, both = found
    assert sorted(deep.verdicts) == [f"case{index}" for index in range(6)]
    case = fold_cases(runs["deep"], 1)[0]
    image, label = read_case(case)
    alone = Segmenter.load(runs["deep"], folds=[1], device="cpu").predict(image)
    scores = score_case(label.array[0], alone.segmentation.array[0], LABELS, image.spacing)
    assert deep.verdicts[case.id].dice == (scores["blob"].counts.dice,)
    assert deep.verdicts[case.id].expected == pytest.approx(alone.expected_dice["blob"])
    assert isnan(deep.verdicts[case.id].agreement)
    assert 0 <= both.verdicts[case.id].agreement <= 1


def test_an_ensemble_is_judged_by_what_it_will_predict(runs, tmp_path):
    for run in runs.values():
        remove_fold(run, 1)
    both = judge_runs(runs, device="cpu")[-1]
    save_ensemble(runs, Postprocessing(), tmp_path / "both")
    segmenter = Segmenter.load(tmp_path / "both", device="cpu")
    for case in fold_cases(runs["deep"], 0):
        image, label = read_case(case)
        result = segmenter.predict(image)
        scores = score_case(label.array[0], result.segmentation.array[0], LABELS, image.spacing)
        assert both.verdicts[case.id].dice == pytest.approx((scores["blob"].counts.dice,), abs=1e-6)
        assert both.verdicts[case.id].expected == pytest.approx(result.expected_dice["blob"], abs=1e-6)


def test_labels_that_were_not_drawn_do_not_count(runs, monkeypatch):
    cases = [replace(case, annotated=()) for case in fold_cases(runs["deep"], 0)]
    monkeypatch.setattr("attunet.selection.comparison.fold_cases", lambda *_: cases)
    remove_fold(runs["deep"], 1)
    assert all(np.isnan(candidate.mean_dice) for candidate in judge_runs(runs, device="cpu"))


def test_only_folds_that_all_have_finished_are_compared(runs):
    assert common_folds(runs) == (0, 1)
    remove_fold(runs["flat"], 1)
    assert common_folds(runs) == (0,)
    remove_fold(runs["deep"], 0)
    with pytest.raises(ConfigError, match="no finished fold in common: deep has 1; flat has 0"):
        common_folds(runs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": ("case1",)}, "validated fold 1 on different cases, such as case3, case5"),
        ({"validation": ("case0", "case1")}, "validated on the cases it was trained on"),
        ({"dataset": "elsewhere"}, "trained on different data sets"),
    ],
)
def test_folds_that_differ_are_refused(changes, message, runs, tmp_path):
    if "dataset" in changes:
        changes = {"dataset": tmp_path / "elsewhere"}
    change_split(runs["flat"], 1, **changes)
    with pytest.raises(ConfigError, match=message) as refused:
        judge_runs(runs, device="cpu")
    assert refused.value.hint


def test_runs_of_other_labels_are_refused(runs, tiny_run):
    with pytest.raises(ConfigError, match="differ in their labels"):
        judge_runs({**runs, "other": tiny_run}, device="cpu")
