import math

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.explanation.agreement import attention_agreement, mean_attention, rank_correlation
from attunet.inference.prediction import Prediction

SHAPE = (20, 18, 10)
GRID = Volume(np.zeros((1, *SHAPE), np.float32), np.diag([-2.0, 1.0, 3.0, 1.0]))
LABELS = {"background": 0, "organ": 3}


def predicted(mask, *maps, content=(slice(None),) * 3):
    attention = {f"level{index}": GRID.with_array(each[None]) for index, each in enumerate(maps, start=2)}
    return Prediction(
        "a", GRID, GRID.with_array(mask[None].astype(np.uint8) * 3), LABELS, None, attention, "test", content=content
    )


@pytest.fixture
def organ():
    mask = np.zeros(SHAPE, bool)
    mask[5:10, 5:10, 3:7] = True
    return mask


def test_a_gate_that_opens_on_the_mask_agrees(organ):
    found = attention_agreement(predicted(organ, np.where(organ, 0.9, 0.1).astype(np.float32)))
    assert found.score == 1
    assert found.threshold == pytest.approx(0.5)
    assert (found.attended_only_ml, found.segmented_only_ml) == (0, 0)
    assert found.attended_only == found.segmented_only == ()


def test_regions_attended_elsewhere_have_size_and_position(organ):
    alpha = np.where(organ, 0.9, 0.1).astype(np.float32)
    alpha[14:18, 12:16, 4:7] = 0.95
    alpha[5:10, 5:10, 3] = 0.1
    found = attention_agreement(predicted(organ, alpha))
    assert found.score < 1
    assert found.attended_only_ml == pytest.approx(4 * 4 * 3 * 6 / 1000)
    assert found.segmented_only_ml == pytest.approx(25 * 6 / 1000)
    assert found.attended_only[0].centre == pytest.approx((-31.0, 13.5, 15.0))
    assert found.segmented_only[0].centre == pytest.approx((-14.0, 7.0, 9.0))


def test_only_the_content_counts_and_places_stay_those_of_the_image(organ):
    alpha = np.where(organ, 0.9, 0.1).astype(np.float32)
    alpha[14:18, 12:16, 4:7] = 0.95
    whole = attention_agreement(predicted(organ, alpha))
    box = (slice(4, 20), slice(4, 18), slice(2, 9))
    outside = np.zeros(SHAPE, np.float32)
    outside[box] = alpha[box]
    assert attention_agreement(predicted(organ, outside, content=box)).attended_only == whole.attended_only


@pytest.mark.parametrize("mask", [np.zeros(SHAPE, bool), np.ones(SHAPE, bool)])
def test_without_two_sides_there_is_no_score(mask):
    found = attention_agreement(predicted(mask, np.full(SHAPE, 0.5, np.float32)))
    assert math.isnan(found.score)
    assert found.to_json()["score"] is None


def test_an_uninformative_map_scores_one_half(organ):
    assert attention_agreement(predicted(organ, np.full(SHAPE, 0.95, np.float32))).score == 0.5


def test_a_localizer_counts_only_where_there_are_no_gates():
    ones, zeros = (Volume.from_array(np.full((2, 2, 2), value, np.float32)) for value in (1, 0))
    assert mean_attention({"localizer": ones, "level2": zeros}).max() == 0
    assert mean_attention({"a/localizer": ones}).min() == 1


def test_gates_and_their_maps_weigh_alike():
    one, two = GRID.with_array(np.full((1, *SHAPE), 0.2)), GRID.with_array(np.stack([np.ones(SHAPE), np.zeros(SHAPE)]))
    assert mean_attention({"level2": one, "level3": two}) == pytest.approx(np.full(SHAPE, 0.35))


def test_a_score_that_ranks_as_the_dice_does_correlates():
    dice = {f"case{index}": index / 10 for index in range(10)}
    found = rank_correlation({case: value**2 for case, value in dice.items()}, dice)
    assert (found.spearman, found.cases) == (pytest.approx(1), 10)
    assert rank_correlation({**dict.fromkeys(dice, math.nan), "case0": 1.0}, dice) is None
