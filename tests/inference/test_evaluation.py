"""The one evaluator: what it predicts and scores is what predictor and scorer give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attunet.bundle import fold_cases
from attunet.data.cases import read_case
from attunet.errors import DataError
from attunet.evaluation.scores import score_case
from attunet.inference.evaluation import EvaluateOptions, LoadedCase, evaluate_case, evaluate_cases
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter


@pytest.fixture
def segmenter(folded):
    return Segmenter.load(folded, device="cpu")


@pytest.fixture
def cases(folded):
    return fold_cases(folded, 0)


def test_masks_and_scores_are_those_of_predictor_and_scorer(segmenter, cases):
    steps = []
    for case, evaluated in zip(
        cases, evaluate_cases(segmenter, cases, progress=lambda *counts: steps.append(counts)), strict=True
    ):
        image, label = read_case(case)
        mask = segmenter.predict(image).segmentation.array
        assert evaluated.name == case.id
        assert np.array_equal(evaluated.prediction.segmentation.array, mask)
        assert evaluated.scores.scores == score_case(label.array[0], mask[0], {"blob": 1}, image.spacing)
        assert evaluated.scores.reference_file == str(case.label)
        assert evaluated.dice == {"blob": evaluated.scores.scores["blob"].counts.dice}
        assert evaluated.seconds > 0
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_options_reach_the_prediction(segmenter, cases):
    loaded = LoadedCase.read(cases[0], segmenter)
    plain = evaluate_case(segmenter, loaded)
    assert plain.prediction.probabilities is None
    assert plain.prediction.attention == {}
    options = EvaluateOptions(prediction=PredictOptions(probabilities=True, attention=True))
    full = evaluate_case(segmenter, loaded, options)
    assert full.prediction.probabilities.array.shape == (2, *full.image.spatial_shape)
    assert full.prediction.attention


def test_only_annotated_labels_are_scored_and_a_case_without_a_label_has_no_scores(segmenter, cases):
    partial, unlabelled = replace(cases[0], annotated=()), replace(cases[0], label=None)
    for evaluated in evaluate_cases(segmenter, [partial, unlabelled]):
        assert evaluated.scores.scores == {}
        assert evaluated.dice == {}
    assert evaluated.reference is None


def test_a_case_that_cannot_be_read_is_refused_when_it_is_its_turn(segmenter, cases, tmp_path):
    broken = replace(cases[1], images=(tmp_path / "missing.nii",))
    evaluations = evaluate_cases(segmenter, [cases[0], broken])
    assert next(evaluations).name == "case0"
    with pytest.raises(DataError):
        next(evaluations)
