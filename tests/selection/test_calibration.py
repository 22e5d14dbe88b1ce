import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from attunet.selection.calibration import calibrate, likelihood_loss, reliability, voxels_per_case
from attunet.selection.samples import Sample


def sample(seed, *, temperature=1.0, regions=False, voxels=3000, outputs=3):
    """Voxels whose truth follows the logits, which are then made surer by a factor."""
    random = np.random.default_rng(seed)
    honest = random.normal(0, 2.0, (outputs, voxels))
    if regions:
        truth = random.random((outputs, voxels)) < expit(honest)
    else:
        drawn = (softmax(honest, axis=0).cumsum(axis=0) > random.random(voxels)).argmax(axis=0)
        truth = np.arange(outputs)[:, None] == drawn
    near = np.ones(voxels, bool)
    logits = (honest * temperature).astype(np.float32)
    return Sample(logits, truth, np.ones(voxels, np.float32), near, np.zeros((7, 1), np.float32), "sum")


def cases(**how):
    found = {f"case{seed}": sample(seed, **how) for seed in range(6)}
    return found, {case: index % 2 for index, case in enumerate(found)}


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_the_temperature_is_found(temperature, regions):
    found = calibrate(*cases(temperature=temperature, regions=regions), regions=regions)
    assert found.fitted == pytest.approx(temperature, rel=0.06)
    assert found.accepted
    assert found.temperature == found.fitted
    assert found.after.ece < 0.5 * found.before.ece
    assert found.loss_after < found.loss_before
    assert f"{found.before.ece:.4f}" in found.reason


def test_what_is_calibrated_stays_as_it_is():
    found = calibrate(*cases(), regions=False)
    assert found.fitted == pytest.approx(1.0, abs=0.06)
    if not found.accepted:
        assert found.temperature == 1.0
        assert "does not help" in found.reason


def test_folds_that_disagree_leave_it_at_one():
    every, folds = cases(temperature=2.5)
    for case, fold in folds.items():
        if fold:
            every[case] = sample(7, temperature=0.5)
    found = calibrate(every, folds, regions=False)
    assert not found.accepted
    assert found.temperature == 1.0


def test_one_fold_is_divided_and_few_cases_teach_nothing():
    every, folds = cases(temperature=2.0)
    assert calibrate(every, dict.fromkeys(folds, 0), regions=False).accepted
    assert calibrate(dict(list(every.items())[:4]), folds, regions=False) is None


@settings(max_examples=25)
@given(st.integers(0, 1000), st.booleans(), st.floats(0.5, 4.0))
def test_the_bins_hold_every_decision_once(seed, regions, temperature):
    found = reliability([(sample(seed, voxels=200, regions=regions), temperature)], regions=regions)
    assert sum(found.share) == pytest.approx(1.0)
    assert 0 <= found.ece <= 1
    for index, (confidence, share) in enumerate(zip(found.confidence, found.share, strict=True)):
        assert share == 0 or index / 15 - 1e-9 <= confidence <= (index + 1) / 15 + 1e-9


def test_without_foreground_there_is_no_calibration_error():
    empty = sample(0)
    empty = Sample(empty.logits, empty.truth, empty.weights, np.zeros(3000, bool), empty.expected, "sum")
    assert reliability([(empty, 1.0)], regions=False).ece == 0.0


def test_the_loss_counts_voxels_by_their_weight():
    logits = np.array([[0.0, 9.0], [0.0, -9.0]], np.float32)
    truth = np.array([[True, True], [False, False]])
    both = Sample(logits, truth, np.array([1.0, 3.0], np.float32), np.ones(2, bool), np.zeros((7, 1)), "sum")
    assert likelihood_loss(both, 1.0, regions=False) == pytest.approx(np.log(2) / 4, abs=1e-4)


def test_many_cases_need_fewer_voxels_each():
    assert voxels_per_case(3, 1000) == 1000
    assert voxels_per_case(100, 1_000_000) == 200
