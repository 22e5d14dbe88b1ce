"""Verdicts on single cases: as the predictor and the scorer give them, and never twice for the same question."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from attunet.bundle import held_out_cases, load_bundle, save_manifest, save_postprocessing
from attunet.config import ComponentRules, Postprocessing
from attunet.data.cases import read_case
from attunet.evaluation.scores import score_case
from attunet.inference.segmenter import Segmenter
from attunet.selection.verdicts import Judge


@pytest.fixture
def predictions(monkeypatch):
    """Counts them."""
    counted = []
    predict = Segmenter.predict
    monkeypatch.setattr(Segmenter, "predict", lambda *args: counted.append(1) or predict(*args))
    return counted


@pytest.fixture
def judge(folded, tmp_path):
    def make(device="cpu"):
        return Judge(folded, load_bundle(folded).plan, tmp_path / "judged", device)

    return make


def test_the_scores_are_those_of_the_plain_fold(folded, judge):
    save_postprocessing(Postprocessing(components={"blob": ComponentRules(minimum_ml=1000)}), folded)
    unseen = held_out_cases(folded)[0][-1]
    verdict = judge().judge(unseen)
    image, label = read_case(unseen.case)
    mask = Segmenter.load(folded, folds=[unseen.fold], device="cpu", raw=True).predict(image).segmentation
    expected = score_case(label.array[0], mask.array[0], {"blob": 1}, image.spacing)
    assert verdict.scores.scores == expected
    assert verdict.scores.case == unseen.case.id
    assert verdict.seconds > 0
    assert verdict.engine.startswith("openvino cpu")


def test_what_was_judged_is_read_and_not_predicted_again(folded, judge, predictions):
    unseen = held_out_cases(folded)[0][0]
    first, second = judge().judge(unseen), judge().judge(unseen)
    assert len(predictions) == 1
    assert second == first


@pytest.mark.parametrize("change", ["weights", "label", "drawn", "device", "file"])
def test_another_question_is_asked_anew(change, folded, judge, predictions, tmp_path):
    unseen = held_out_cases(folded)[0][0]
    judge().judge(unseen)
    device = "cpu"
    if change == "weights":
        (folded / "fold_0" / "weights.safetensors").write_bytes(b"other")
        save_manifest(folded)
    elif change == "label":
        os.utime(unseen.case.label, ns=(1, 1))
    elif change == "drawn":
        unseen = replace(unseen, case=replace(unseen.case, annotated=()))
    elif change == "device":
        device = "auto"
    else:
        (tmp_path / "judged" / f"{unseen.case.id}.json").write_text("{")
    judge(device).judge(unseen)
    assert len(predictions) == 2
