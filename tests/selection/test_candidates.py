"""Runs and their ensembles on the cases held out of their folds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from math import isnan, nan
from threading import Event

import numpy as np
import pytest

from attunet.bundle import fold_cases, fold_folder, save_ensemble, save_manifest
from attunet.config import Postprocessing
from attunet.data.cases import read_case
from attunet.data.folds import Split
from attunet.errors import CancelledError, ConfigError
from attunet.evaluation.scores import score_case
from attunet.failures import Failures
from attunet.inference.segmenter import Segmenter
from attunet.selection.candidates import CandidateScore, EnsembleCandidate, candidates_of, evaluate_candidates

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


def remove_fold(run, fold):
    shutil.rmtree(fold_folder(run, fold))
    save_manifest(run)


def score(*dice):
    return CandidateScore(dice=dice, expected=0.5, agreement=nan, seconds=2.0)


def test_every_run_every_pair_and_all_are_candidates():
    assert candidates_of("ab") == [("a",), ("b",), ("a", "b")]
    assert [len(members) for members in candidates_of("abcd")] == [1] * 4 + [2] * 6 + [4]


def test_the_mean_dice_is_that_of_the_labels_means_and_absent_labels_do_not_count():
    candidate = EnsembleCandidate(("a", "b"), {"x": score(0.8, nan), "y": score(0.6, 0.4)})
    assert candidate.name == "a + b"
    assert candidate.mean_dice == pytest.approx((0.7 + 0.4) / 2)
    assert candidate.scores["x"].mean_dice == 0.8
    assert candidate.seconds == 2
    low, high = candidate.interval
    assert low <= candidate.mean_dice <= high


def test_each_case_is_evaluated_with_the_fold_it_was_held_out_of(runs):
    seen = []
    found = evaluate_candidates(runs, device="cpu", progress=lambda *counts: seen.append(counts))
    assert [candidate.members for candidate in found] == [("deep",), ("flat",), ("deep", "flat")]
    assert seen == [(done, 6) for done in range(1, 7)]
    deep, _, both = found
    assert sorted(deep.scores) == [f"case{index}" for index in range(6)]
    case = fold_cases(runs["deep"], 1)[0]
    image, label = read_case(case)
    alone = Segmenter.load(runs["deep"], folds=[1], device="cpu").predict(image)
    scores = score_case(label.array[0], alone.segmentation.array[0], LABELS, image.spacing)
    assert deep.scores[case.id].dice == (scores["blob"].counts.dice,)
    assert deep.scores[case.id].expected == pytest.approx(alone.expected_dice["blob"])
    assert isnan(deep.scores[case.id].agreement)
    assert 0 <= both.scores[case.id].agreement <= 1


def test_the_score_of_an_ensemble_is_that_of_its_predictions(runs, tmp_path):
    for run in runs.values():
        remove_fold(run, 1)
    both = evaluate_candidates(runs, device="cpu")[-1]
    save_ensemble(runs, Postprocessing(), tmp_path / "both")
    segmenter = Segmenter.load(tmp_path / "both", device="cpu")
    for case in fold_cases(runs["deep"], 0):
        image, label = read_case(case)
        result = segmenter.predict(image)
        scores = score_case(label.array[0], result.segmentation.array[0], LABELS, image.spacing)
        assert both.scores[case.id].dice == pytest.approx((scores["blob"].counts.dice,), abs=1e-6)
        assert both.scores[case.id].expected == pytest.approx(result.expected_dice["blob"], abs=1e-6)


def test_labels_that_are_not_annotated_do_not_count(runs, monkeypatch):
    cases = [replace(case, annotated=()) for case in fold_cases(runs["deep"], 0)]
    monkeypatch.setattr("attunet.selection.candidates.fold_cases", lambda *_: cases)
    remove_fold(runs["deep"], 1)
    assert all(np.isnan(candidate.mean_dice) for candidate in evaluate_candidates(runs, device="cpu"))


def test_the_evaluation_can_be_cancelled(runs):
    cancelled, done = Event(), []
    with pytest.raises(CancelledError):
        evaluate_candidates(
            runs, device="cpu", progress=lambda *counts: (done.append(counts), cancelled.set()), cancelled=cancelled
        )
    assert done == [(1, 6)]


def test_runs_of_other_labels_are_refused(runs, tiny_run):
    with pytest.raises(ConfigError, match="differ in their labels"):
        evaluate_candidates({**runs, "other": tiny_run}, device="cpu")


def test_a_case_that_cannot_be_used_is_left_out_of_every_candidate(folded, tmp_path):
    other = shutil.copytree(folded, tmp_path / "other")
    (tmp_path / "blobs" / "images" / "case0.nii").write_bytes(b"damaged")
    failures = Failures()
    candidates = evaluate_candidates({"a": folded, "b": other}, failures=failures)
    assert failures.errors.keys() == {"case0"}
    assert all(candidate.scores.keys() == {f"case{number}" for number in range(1, 6)} for candidate in candidates)
