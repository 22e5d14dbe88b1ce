import numpy as np
import pytest

from attunet.evaluation.metrics import METRICS
from attunet.evaluation.scores import LabelScores, dice_case, foreground, score_case, scored_labels

SPACING = (1.0, 1.0, 2.0)


def labelled(**boxes: tuple[int, int]) -> np.ndarray:
    """Values v1, v2, ... on the given range of rows."""
    array = np.zeros((8, 4, 4), dtype=np.uint8)
    for name, (start, stop) in boxes.items():
        array[start:stop] = int(name[1:])
    return array


def test_every_label_is_scored_on_its_own() -> None:
    scores = score_case(labelled(v1=(0, 2), v2=(4, 6)), labelled(v1=(0, 2), v2=(5, 7)), {"one": 1, "two": 2}, SPACING)
    assert list(scores) == ["one", "two"]
    assert scores["one"].values()["Dice"] == 1.0
    assert scores["one"].values()["MSD"] == 0.0
    assert scores["two"].values()["Dice"] == pytest.approx(0.5)
    assert scores["two"].values()["VolumeErrorMl"] == 0.0


def test_values_are_those_of_the_metrics() -> None:
    scores = score_case(labelled(v1=(0, 2)), labelled(v1=(0, 3)), {"one": 1}, SPACING)
    values = scores["one"].values()
    assert values.keys() == METRICS.keys()
    assert (values["TP"], values["FP"], values["FN"], values["TN"]) == (32, 16, 0, 80)
    assert values["VolumeErrorMl"] == pytest.approx(16 * 2 / 1000)


def test_background_is_left_out() -> None:
    assert foreground({"background": 0, "liver": 5}) == {"liver": 5}
    assert foreground({"background": 255, "dark": 7}) == {"dark": 7}
    assert list(score_case(labelled(v5=(0, 1)), labelled(), {"background": 0, "liver": 5}, SPACING)) == ["liver"]


def test_ignored_voxels_count_nowhere() -> None:
    reference = labelled(v1=(0, 2), v9=(2, 4))
    prediction = labelled(v1=(0, 4))
    scores = score_case(reference, prediction, {"one": 1, "ignore": 9}, SPACING, ignore=9)
    assert list(scores) == ["one"]
    assert scores["one"].counts.dice == 1.0
    assert scores["one"].counts.tn == 4 * 16


def test_label_in_neither_mask_is_absent() -> None:
    scores = score_case(labelled(), labelled(), {"one": 1}, SPACING)
    assert scores["one"].counts == LabelScores.absent(128).counts
    assert np.isnan(scores["one"].values()["HD95"])


def test_a_region_is_the_union_of_its_values_in_both_masks() -> None:
    scores = score_case(
        labelled(v1=(0, 4), v2=(1, 2)), labelled(v2=(0, 3)), {"whole": (1, 2), "core": (2,), "two": 2}, SPACING
    )
    assert scores["whole"].counts.dice == pytest.approx(6 / 7)
    assert scores["core"] == scores["two"]
    assert scores["core"].counts.dice == pytest.approx(0.5)


def test_only_annotated_labels_are_scored() -> None:
    labels = {"background": 0, "one": 1, "two": 2}
    assert list(score_case(labelled(v1=(0, 2)), labelled(v2=(0, 2)), labels, SPACING, annotated=["one"])) == ["one"]
    assert score_case(labelled(v1=(0, 2)), labelled(), labels, SPACING, annotated=()) == {}


def test_a_plan_says_what_to_score(tiny_plan) -> None:
    assert scored_labels(tiny_plan()) == {"blob": 1}
    inverted = scored_labels(tiny_plan(labels={"background": 255, "membrane": 0}))
    assert list(score_case(labelled(), labelled(), inverted, SPACING)) == ["membrane"]


def test_a_plan_of_regions_is_scored_by_what_they_unite(tiny_plan) -> None:
    plan = tiny_plan()
    regions = {"whole": (1, 2), "core": (2,)}
    changed = plan.model_copy(update={"labels": {"background": 0, "whole": 1, "core": 2}, "regions": regions})
    assert scored_labels(changed) == regions


def test_the_dice_alone_is_that_of_the_whole_score(make_plan_of):
    plan = make_plan_of(ignore_label=9)
    random = np.random.default_rng(0)
    reference, prediction = random.choice([0, 1, 7, 9], (8, 7, 6)), random.choice([0, 1, 7], (8, 7, 6))
    whole = score_case(reference, prediction, scored_labels(plan), (1.0, 1.0, 1.0), ignore=9)
    assert dice_case(reference, prediction, plan) == {name: scores.counts.dice for name, scores in whole.items()}
    assert list(dice_case(reference, prediction, plan, ("lesion",))) == ["lesion"]
