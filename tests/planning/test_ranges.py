"""What later scans are compared with, from the cases of a training."""

from dataclasses import replace

import numpy as np
import pytest

from attunet.data.intensities import ValueSpread
from attunet.planning.options import PlanOptions
from attunet.planning.planner import make_plan
from attunet.planning.ranges import image_ranges


def of_cases(fingerprint, *changes):
    """A fingerprint with one case for each of these changes."""
    return replace(fingerprint, cases=tuple(replace(fingerprint.cases[0], **change) for change in changes))


def test_each_axis_has_the_smallest_and_the_largest_case(make_fingerprint):
    facts = of_cases(
        make_fingerprint(),
        {"shape": (60, 50, 20), "spacing": (1.0, 1.0, 5.0), "tilt": 3.0},
        {"shape": (50, 70, 40), "spacing": (0.8, 2.0, 2.5), "tilt": 12.345},
        {"shape": (55, 60, 90), "spacing": (1.0, 1.0, 1.0)},
    )
    found = image_ranges(facts)
    assert found.shape == ((50, 60), (50, 70), (20, 90))
    assert found.spacing == ((0.8, 1.0), (1.0, 2.0), (1.0, 5.0))
    assert found.extent == ((40.0, 60.0), (50.0, 140.0), (90.0, 100.0))
    assert found.planes == ("axial",)  # 2.5 is not twice 2, and the last has none
    assert found.tilt == pytest.approx(12.345, abs=0.01)
    assert image_ranges(of_cases(facts, {"spacing": (5.0, 1.0, 1.0)}, {"spacing": (1.0, 1.0, 5.0)})).planes == (
        "sagittal",
        "axial",
    )


def test_sizes_are_those_of_what_a_prediction_takes_for_content(make_fingerprint):
    facts = of_cases(make_fingerprint(modality="ct"), {"shape": (60, 60, 60), "clipped_shape": (40, 30, 20)})
    assert image_ranges(facts).shape[0] == (60, 60)
    assert image_ranges(replace(facts, clipped=True)).shape == ((40, 40), (30, 30), (20, 20))


def test_each_channel_has_its_own_values(make_fingerprint):
    spreads = [
        (ValueSpread(0.0, 1000.0, 200.0, 500), ValueSpread(-1000.0, 1000.0, 0.0, 2000)),
        (ValueSpread(10.0, 410.0, 210.0, 90), ValueSpread(-1000.0, 3000.0, 0.0, 900)),
    ]
    facts = of_cases(make_fingerprint(channels=2), *({"spreads": each} for each in spreads))
    first, second = image_ranges(facts).channels
    assert (first.low, first.high, first.width) == ((0, 10), (410, 1000), (400, 1000))
    assert (first.below_zero, first.median_place, first.distinct) == ((0, 0), (0.2, 0.5), 90)
    assert (second.below_zero, second.median_place) == ((0.25, 0.5), (0.25, 0.5))


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_values_that_a_plan_cannot_hold_do_not_keep_a_training_from_starting(value, make_fingerprint):
    facts = of_cases(make_fingerprint(), {"spreads": (ValueSpread(*sorted((0.0, value)), 0.0, 3),)})
    assert np.abs(image_ranges(facts).channels[0].width).max() == 1e30


def test_a_plan_contains_them(make_fingerprint):
    facts = make_fingerprint(channels=2)
    plan = make_plan(facts, PlanOptions(size="small"))
    assert plan.fingerprint.ranges == image_ranges(facts)
    assert len(plan.fingerprint.ranges.channels) == 2
