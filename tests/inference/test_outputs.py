"""Probabilities, class indices and the expected Dice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.preprocess import prepare
from attunet.data.volume import Volume
from attunet.inference.outputs import activate, class_indices, expected_dice, label_masks, normalized

REGIONS = {"whole": (1, 2), "core": (2,)}


@pytest.fixture(scope="module")
def classes(make_plan_of):
    return make_plan_of()


@pytest.fixture(scope="module")
def regions(make_plan_of):
    plan = make_plan_of(labels={"background": 0, "whole": 1, "core": 2})
    network = plan.network.model_copy(update={"out_channels": 2})
    return plan.model_validate({**plan.model_dump(), "network": network.model_dump(), "regions": REGIONS})


def random_logits(outputs, shape=(4, 5, 6), scale=4.0):
    return np.random.default_rng(0).normal(0, scale, (outputs, *shape)).astype(np.float32)


@given(temperature=st.floats(0.2, 5), scale=st.floats(0.1, 500))
def test_classes_sum_to_one_and_temperature_keeps_their_order(temperature, scale, classes):
    logits = random_logits(3, scale=scale)
    before = logits.copy()
    likely = activate(logits, classes, temperature)
    np.testing.assert_allclose(likely.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(likely.argmax(0), activate(logits, classes).argmax(0))
    np.testing.assert_array_equal(logits, before)


def test_a_temperature_above_one_is_less_certain(classes):
    logits = random_logits(3)
    assert activate(logits, classes, 2.0).max(axis=0).mean() < activate(logits, classes).max(axis=0).mean()


def test_regions_are_each_for_themselves_and_never_overflow(regions):
    logits = np.array([-1e4, -2, 0, 2, 1e4], np.float32).reshape(1, 5, 1, 1).repeat(2, 0)
    likely = activate(logits, regions)
    np.testing.assert_allclose(likely[0].ravel(), [0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 1], atol=1e-6)


def test_the_most_probable_class_is_the_lower_of_equals(classes):
    likely = activate(random_logits(3), classes)
    likely[1, 0, 0, 0] = likely[2, 0, 0, 0] = 0.9
    np.testing.assert_array_equal(class_indices(likely, classes), likely.argmax(0))


def test_regions_are_painted_where_above_one_half(regions):
    likely = np.array([[0.4, 0.6, 0.6, 0.2], [0.4, 0.4, 0.9, 0.7]], np.float32).reshape(2, 4, 1, 1)
    assert class_indices(likely, regions).ravel().tolist() == [0, 1, 2, 2]


def test_outside_the_content_all_is_background(classes, regions, restore):
    padded = np.zeros((8, 8, 8))
    padded[2:6, 2:6, 2:6] = np.arange(1, 65).reshape(4, 4, 4)
    for plan, outputs in ((classes, 3), (regions, 2)):
        record = prepare(Volume.from_array(padded), plan.preprocessing).record
        likely = normalized(restore(activate(random_logits(outputs, record.model_shape), plan), record), plan)
        assert likely.shape == (outputs, 8, 8, 8)
        assert likely[:, 0, 0, 0].tolist() == ([1, 0, 0] if plan is classes else [0, 0])


def test_winners_of_classes_exclude_and_of_regions_overlap(classes, regions):
    likely = activate(random_logits(3), classes)
    assert not np.logical_and(*label_masks(likely, classes)).any()
    both = np.full((2, 1, 1, 1), 0.9, np.float32)
    assert all(mask.all() for mask in label_masks(both, regions))


def test_certain_probabilities_promise_a_dice_of_one(classes):
    likely = np.zeros((3, 2, 2, 2), np.float32)
    likely[0, 0], likely[1, 1] = 1, 1
    assert expected_dice(likely, classes) == {"body": 1.0, "lesion": None}


def test_expected_dice_is_twice_what_lies_inside_over_both_sizes(classes):
    likely = np.array([[0.3, 0.6, 0.9], [0.7, 0.4, 0.1], [0, 0, 0]], np.float32).reshape(3, 3, 1, 1)
    assert expected_dice(likely, classes)["body"] == pytest.approx(2 * 0.7 / (1 + 1.2))


def test_a_label_that_may_have_been_missed_has_an_expected_dice_of_zero(classes):
    likely = np.array([0.6, 0.0, 0.4], np.float32).reshape(3, 1, 1, 1)
    assert expected_dice(likely, classes) == {"body": None, "lesion": 0.0}


def test_expected_dice_is_the_mean_over_what_the_truth_may_be(classes):
    """Drawing truths from the probabilities themselves gives about the Dice that was expected."""
    random = np.random.default_rng(0)
    p = random.uniform(size=(20, 20, 5)).astype(np.float32)
    likely = np.stack([1 - p, p, p * 0])
    mask = p > 0.5
    truths = random.uniform(size=(200, *p.shape)) < p
    measured = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for truth in truths]
    assert expected_dice(likely, classes)["body"] == pytest.approx(np.mean(measured), abs=0.005)
