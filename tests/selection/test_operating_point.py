"""The operating point: found where a label was made too probable, and left alone where folds disagree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from attunet.bundle import HeldOutCase
from attunet.data.cases import Case
from attunet.evaluation.paired import PairedGain
from attunet.inference.outputs import activate, biases_of
from attunet.selection.operating_point import OperatingPoint, choose_operating_point, sample_dice
from attunet.selection.samples import Sample


def sample(seed, *, shift=0.0, voxels=4000, prior=-4.0):
    """Voxels of a rare label, whose truth follows the logits, before its logit is raised by `shift`."""
    random = np.random.default_rng(seed)
    honest = np.stack([np.zeros(voxels), random.normal(prior, 3.0, voxels)])
    rare = random.random(voxels) < softmax(honest, axis=0)[1]
    logits = honest + np.array([[0.0], [shift]])
    weights = np.where(rare, 1.0, 3.0)
    truth = np.stack([~rare, rare])
    return Sample(
        logits.astype(np.float32), truth, weights.astype(np.float32), rare, np.zeros((7, 1), np.float32), "sum"
    )


def held_out(count, folds=3, annotated=None):
    cases = [
        Case(f"case{seed}", (Path("image.nii.gz"),), Path("label.nii.gz"), annotated=annotated) for seed in range(count)
    ]
    return [HeldOutCase(case=case, fold=index % folds, geometry="fail") for index, case in enumerate(cases)]


@pytest.fixture
def plan(make_plan_of):
    return make_plan_of(labels={"background": 0, "tumour": 1})


def test_a_label_that_is_predicted_too_often_gets_a_negative_bias(plan):
    samples = {f"case{seed}": sample(seed, shift=2.5) for seed in range(9)}
    point = choose_operating_point(held_out(9), samples, plan)
    assert point.accepted
    assert -3.5 < point.fitted["tumour"] < -1
    assert set(point.by_fold) == {0, 1, 2}
    gains = [np.mean(sample_dice(each, plan, point.fitted) - sample_dice(each, plan, {})) for each in samples.values()]
    assert point.gain.mean == pytest.approx(np.mean(gains), abs=0.03)
    assert 0 < point.gain.low <= point.gain.mean <= point.gain.high
    assert "tumour -" in point.reason


def test_a_good_threshold_stays(plan):
    """The best Dice has a threshold below one half, but not by so much that folds agree on a gain."""
    samples = {f"case{seed}": sample(seed, shift=-0.75 if seed % 3 else 0.75) for seed in range(9)}
    point = choose_operating_point(held_out(9), samples, plan)
    assert not point.accepted
    assert point.reason.startswith("none")


@pytest.mark.parametrize("cases", [held_out(4), held_out(9, folds=1), held_out(9, annotated=("tumour",))])
def test_few_cases_one_fold_or_partial_labels_decide_nothing(cases, plan):
    samples = {entry.case.id: sample(index, shift=2.5) for index, entry in enumerate(cases)}
    point = choose_operating_point(cases, samples, plan)
    assert not point.accepted
    assert "fewer than 5" in point.reason


def test_a_fold_of_partially_annotated_cases_is_at_the_biases_of_all_others(plan):
    cases = [*held_out(9), HeldOutCase(case=held_out(1, annotated=("tumour",))[0].case, fold=7, geometry="fail")]
    samples = {f"case{seed}": sample(seed, shift=2.5) for seed in range(9)}
    point = choose_operating_point(cases, samples, plan)
    assert point.by_fold[7] == point.fitted != {}
    assert point.by_fold[0] == choose_operating_point(held_out(9), samples, plan).by_fold[0]


def test_whole_masks_overrule_the_estimate():
    biases = {"tumour": -1.0}
    estimated = OperatingPoint(fitted=biases, by_fold={0: biases}, gain=PairedGain(0.05, 0.04, 0.06, 4))
    assert estimated.accepted
    better = estimated.measured([0.5, 0.6, 0.7, 0.8], [0.51, 0.62, 0.71, 0.82])
    assert better.accepted
    assert better.gain.mean == pytest.approx(0.015)
    assert 0.01 <= better.gain.low <= 0.015 <= better.gain.high <= 0.02
    worse = estimated.measured([0.5, 0.6, 0.7, 0.8], [0.4, 0.5, 0.6, 0.7])
    assert not worse.accepted
    assert worse.reason.startswith("none, as tumour -1.00 does not help enough: -0.1000 Dice")


def test_the_estimate_is_the_dice_of_the_voxels_that_are_represented(plan):
    logits = np.array([[0, 0, 0, 0], [1, 1, -1, -1]], np.float32)
    truth = np.array([[False, True, False, True], [True, False, True, False]])
    weights = np.array([1, 2, 3, 4], np.float32)
    each = Sample(logits, truth, weights, truth[1], np.zeros((7, 1), np.float32), "sum")
    assert sample_dice(each, plan, {}) == pytest.approx([2 * 1 / (3 + 4)])
    assert sample_dice(each, plan, {"tumour": 2.0}) == pytest.approx([2 * 4 / (10 + 4)])
    assert sample_dice(each, plan, {"tumour": -2.0}) == pytest.approx([0.0])


def test_predictions_add_the_bias_before_the_temperature(plan):
    logits = np.random.default_rng(0).normal(0, 2, (2, 3, 4, 5)).astype(np.float32)
    expected = softmax((logits + np.array([0, -1.5]).reshape(2, 1, 1, 1)) / 2, axis=0)
    bias = biases_of(plan, {"tumour": -1.5})
    assert bias == (0.0, -1.5)
    np.testing.assert_allclose(activate(logits, plan, 2.0, bias), expected, atol=1e-6)
    assert biases_of(plan, {}) == ()
