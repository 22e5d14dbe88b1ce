import numpy as np
import pytest

from attunet.selection.quality import fit_quality, left_out_predictions


def pairs(slope, intercept, noise=0.0, cases=30, seed=0):
    random = np.random.default_rng(seed)
    expected = random.uniform(0.7, 0.95, cases)
    return expected, np.clip(slope * expected + intercept + random.normal(0, noise, cases), 0, 1)


def test_a_line_is_found_and_predicts():
    quality = fit_quality(*pairs(0.8, 0.1))
    assert quality.cases == 30
    assert (quality.slope, quality.intercept) == (pytest.approx(0.8), pytest.approx(0.1))
    assert quality.spearman == pytest.approx(1.0)
    assert quality.error == pytest.approx(0.0, abs=1e-9)


def test_noise_widens_the_interval_and_the_error():
    quality = fit_quality(*pairs(0.8, 0.1, noise=0.05))
    assert quality.low < quality.spearman < quality.high
    assert 0.02 < quality.error < 0.08


def test_an_uninformative_expectation_is_replaced_by_the_mean():
    expected, measured = pairs(-0.5, 1.2, noise=0.02)
    quality = fit_quality(expected, measured)
    assert quality.spearman < 0
    assert quality.slope == 0.0
    assert quality.intercept == pytest.approx(measured.mean())


def test_the_error_is_that_of_cases_left_out():
    expected, measured = pairs(1.0, 0.0, noise=0.05, cases=8)
    inside = fit_quality(expected, measured)
    fitted = np.abs(np.polyval(np.polyfit(expected, measured, 1), expected) - measured).mean()
    assert inside.error > fitted


@pytest.mark.parametrize(
    ("expected", "measured"),
    [
        ([0.8, 0.9, 0.7, 0.6], [0.8, 0.9, 0.7, 0.6]),
        ([0.8] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        ([0.1, 0.2, 0.3, 0.4, 0.5, np.nan], [np.nan, 0.2, 0.3, 0.4, 0.5, 0.6]),
    ],
)
def test_too_few_or_all_the_same_is_no_measurement(expected, measured):
    assert fit_quality(expected, measured) is None


def test_a_case_is_predicted_by_the_line_through_all_others():
    expected, measured = [0.1, 0.2, 0.3, 0.4, 0.5, np.nan], [0.2, 0.3, 0.4, 0.5, 0.9, 0.5]
    predicted = left_out_predictions(expected, measured, fit_quality(expected, measured))
    assert predicted[4] == pytest.approx(0.6)  # the others lie on measured = expected + 0.1
    assert np.isnan(predicted[5])


def test_where_the_mean_is_predicted_it_is_the_mean_of_all_others():
    expected, measured = pairs(-0.5, 1.2, noise=0.02)
    predicted = left_out_predictions(expected, measured, fit_quality(expected, measured))
    assert predicted[0] == pytest.approx(measured[1:].mean())
