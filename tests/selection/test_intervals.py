"""Prediction intervals: golden ends by hand, coverage on exchangeable draws, refusals, absent labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.config import IntervalCalibration, Postprocessing, parse_settings
from attunet.evaluation.overlap import Counts
from attunet.evaluation.scores import CaseScores, LabelScores
from attunet.selection.intervals import (
    MIN_CASES,
    POWER,
    HeldOutValues,
    calibrate_dice,
    calibrate_interval,
    calibrate_volumes,
)
from attunet.selection.quality import fit_quality


def values(predicted, true, folds=None):
    return HeldOutValues(predicted=predicted, true=true, folds=[0] * len(predicted) if folds is None else folds)


def scored(predicted, reference, voxel_ml=0.5, label="organ"):
    """The scores of a case from numbers of voxels; every voxel of the smaller mask is in the other, too."""
    shared = min(predicted, reference)
    counts = Counts(tp=shared, fp=predicted - shared, fn=reference - shared, tn=10**6)
    measured = {} if counts.both_empty else {"VolumeErrorMl": (predicted - reference) * voxel_ml}
    return CaseScores("case", {label: LabelScores(counts, measured)})


def test_the_bound_is_an_order_statistic():
    """39 residuals 0, 1, 1, ..., 19, 19: k = ceil(40 * 0.9) = 36, which is 18."""
    shuffled = np.random.default_rng(0).permutation(np.arange(-19, 20))
    decision = calibrate_interval(values([100.0] * 39, list(100.0 + shuffled)), "ml", power=0.0)
    found = decision.calibration
    assert (found.bound, found.cases, found.level) == (18.0, 39, 0.9)
    assert (found.typical, found.width) == (100.0, 36.0)
    assert found.coverage == pytest.approx(37 / 39)  # k is 36 of 38 others, too: only the two extremes are outside
    assert (found.around(50.0).low, found.around(50.0).high) == (32.0, 68.0)
    assert found.around(10.0).low == 0.0  # no volume is negative


def test_the_width_grows_with_the_power_of_the_prediction():
    """An error of 8 ml at 8 ml, whose power 2/3 is 4, is a residual of 2; at 27 ml, whose power is 9, that is 18 ml."""
    found = calibrate_interval(values([8.0] * 20, [16.0] * 20), "ml", power=2 / 3).calibration
    assert found.bound == pytest.approx(2.0)
    assert found.around(27.0).low == pytest.approx(9)
    assert found.around(27.0).high == pytest.approx(45)


def test_nineteen_cases_are_refused_and_twenty_are_not():
    assert MIN_CASES == 20
    few = calibrate_interval(values([1.0] * 19, [1.0] * 19), "ml", power=1.0)
    assert (few.calibration, few.reason) == (None, "none: 19 held-out cases, at least 20 are needed")
    assert calibrate_interval(values([1.0] * 20, [1.0] * 20), "ml", power=1.0).calibration is not None


def test_a_high_level_needs_more_cases():
    decision = calibrate_interval(values([1.0] * 98, [1.0] * 98), "ml", power=1.0, level=0.99)
    assert decision.reason == "none: 98 held-out cases, at least 99 are needed"
    assert calibrate_interval(values([1.0] * 99, [1.0] * 99), "ml", power=1.0, level=0.99).calibration.level == 0.99


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cases=st.integers(20, 60),
    level=st.sampled_from([0.5, 0.8, 0.9]),
    bias=st.floats(0.5, 3.0),
)
def test_new_exchangeable_cases_are_inside_as_often_as_promised(seed, cases, level, bias):
    """Skewed errors of a biased model: the mean over 400 calibrations is at least the level, up to its own error."""
    random = np.random.default_rng(seed)
    hits = []
    for _ in range(400):
        predicted = random.lognormal(1.0, 1.5, cases + 1)
        true = predicted * bias * random.lognormal(0.0, 0.4, cases + 1)
        held_out = values(list(predicted[:-1]), list(true[:-1]))
        interval = calibrate_interval(held_out, "ml", power=POWER, level=level).calibration.around(predicted[-1])
        hits.append(interval.low <= true[-1] <= interval.high)
    assert np.mean(hits) >= level - 4 * np.sqrt(level * (1 - level) / len(hits))


def test_cases_without_a_prediction_are_counted_and_left_out():
    predicted, true = [0.0] * 5 + [10.0] * 20, [3.0, 3.0, 0.0, 0.0, 0.0] + [10.0] * 20
    found = calibrate_interval(values(predicted, true), "ml", power=POWER)
    assert (found.calibration.cases, found.calibration.not_predicted, found.calibration.missed) == (20, 5, 2)
    assert "without a prediction there is no interval (2 of 5 such cases have the label)" in found.reason
    few = calibrate_interval(values(predicted[:24], true[:24]), "ml", power=POWER)
    assert few.reason == "none: 19 held-out cases (5 more without a prediction), at least 20 are needed"


def test_a_label_that_is_often_predicted_in_vain_has_an_interval_from_zero():
    found = calibrate_interval(values([10.0] * 20, [0.0] * 3 + [10.0] * 17), "ml", power=POWER).calibration
    assert (found.around(10.0).low, found.around(10.0).high) == (0.0, 20.0)


def test_folds_that_differ_are_not_covered_by_each_other():
    """A network that errs more: its own cases cover a case of the fold, those of the better network do not."""
    random = np.random.default_rng(0)
    errors = np.concatenate([random.normal(0, 0.1, 30), random.normal(5, 0.1, 30)])
    decision = calibrate_interval(values([100.0] * 60, list(100 + errors), [0] * 30 + [1] * 30), "ml", power=0.0)
    assert decision.calibration.coverage >= 0.9
    assert decision.calibration.folds == 0.5
    assert "50% leaving out each fold" in decision.reason
    assert "short of 90% leaving out each fold" in decision.reason


def test_a_single_fold_has_no_coverage_across_folds():
    found = calibrate_interval(values([100.0] * 30, list(range(85, 115))), "ml", power=0.0)
    assert found.calibration.folds is None
    assert "leaving out each fold" not in found.reason
    assert "short of" not in found.reason


def test_sizes_that_the_interval_serves_badly_are_said():
    """Constant errors for small volumes and ten times as large ones for large: the wrong scale shows in the thirds."""
    random = np.random.default_rng(1)
    predicted = np.linspace(1, 100, 90)
    true = predicted + random.normal(0, 0.3, 90) * np.where(predicted > 66, 10, 1)
    decision = calibrate_interval(values(list(predicted), list(true)), "ml", power=0.0)
    small, medium, large = decision.calibration.thirds
    assert (small, medium) == (1.0, 1.0)
    assert large < 0.8
    assert "short of 90% among large values" in decision.reason


def test_each_label_counts_where_it_is_annotated():
    cases = [scored(100 + index, 100) for index in range(20)] + [scored(50, 40, label="rare")]
    decisions = calibrate_volumes(cases, [0] * 21, ["organ", "rare"])
    assert decisions["organ"].calibration.cases == 20
    assert decisions["rare"].reason == "none: 1 held-out cases, at least 20 are needed"


def test_masks_that_are_all_exact_have_no_interval():
    """Their scores do not tell the size of a voxel."""
    decisions = calibrate_volumes([scored(100, 100) for _ in range(20)], [0] * 20, ["organ"])
    assert decisions["organ"].reason == "none: no held-out volume is wrong"


def test_the_dice_has_an_interval_within_its_range():
    random = np.random.default_rng(0)
    expected = random.uniform(0.7, 0.98, 40)
    measured = np.clip(expected + random.normal(0, 0.03, 40), 0, 1)
    lacking = [*expected, np.nan], [*measured, 0.5]
    found = calibrate_dice(*lacking, [0] * 41, fit_quality(*lacking)).calibration
    assert (found.cases, found.limit) == (40, 1.0)
    assert found.around(0.99).high == 1.0
    assert 0.04 < found.width < 0.2


def test_thirds_of_the_dice_are_those_of_the_expected_dice():
    """The expected Dice says nothing, so that the mean is predicted; the worst cases have a low expected Dice."""
    expected = np.linspace(0.5, 0.8, 30)
    measured = np.where(np.arange(30) < 5, 0.3, np.where(np.arange(30) < 10, 0.95, 0.7)) + expected / 1000
    quality = fit_quality(expected, measured).model_copy(update={"slope": 0.0})
    found = calibrate_dice(list(expected), list(measured), [0] * 30, quality, 0.8).calibration
    small, medium, large = found.thirds
    assert (medium, large) == (1.0, 1.0)
    assert small < 0.8


def test_without_a_predicted_dice_there_is_no_interval():
    decision = calibrate_dice([0.8] * 30, [0.8] * 30, [0] * 30, None)
    assert (decision.calibration, decision.reason) == (None, "none: no Dice is predicted")


def test_an_interval_survives_its_file_and_earlier_files_load(tmp_path):
    found = calibrate_interval(values([100.0] * 30, list(range(85, 115))), "ml", power=POWER).calibration
    kept = Postprocessing(volume_intervals={"organ": found}, dice_interval=found)
    path = tmp_path / "postprocessing.json"
    assert parse_settings(Postprocessing, kept.model_dump_json().encode(), path) == kept
    earlier = parse_settings(Postprocessing, b'{"temperature": 1.2, "reasons": {}}', path)
    assert (earlier.volume_intervals, earlier.dice_interval) == ({}, None)
    assert isinstance(kept.volume_intervals["organ"], IntervalCalibration)
