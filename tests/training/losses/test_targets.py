import pytest
import torch

from attunet.data.preprocess import IGNORED
from attunet.training.losses.targets import (
    annotated_classes,
    annotated_outputs,
    class_targets,
    marginal,
    output_classes,
)

LABELS = {"background": 0, "liver": 1, "spleen": 5}


@pytest.fixture
def plan(tiny_plan):
    return tiny_plan(labels=LABELS)


def test_each_label_is_its_own_class(plan):
    assert output_classes(plan) == ((0,), (1,), (2,))


def test_a_region_unites_the_indices_of_its_file_values(regions_plan):
    assert regions_plan.file_classes == ((0,), (1,), (2,), (4,))
    assert output_classes(regions_plan) == ((1, 2, 3), (2, 3), (3,))


def test_targets_of_labels_are_one_hot_and_empty_where_ignored(plan):
    label = torch.tensor([[0, 1, 2, IGNORED]], dtype=torch.uint8)
    assert class_targets(label, output_classes(plan)).tolist() == [[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]]


def test_targets_of_regions_overlap(regions_plan):
    label = torch.tensor([[0, 1, 2, 3, IGNORED]], dtype=torch.uint8)
    expected = [[[0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]]]
    assert class_targets(label, output_classes(regions_plan)).tolist() == expected


@pytest.mark.parametrize(
    ("annotated", "outputs", "classes"),
    [
        (None, (True, True, True), {0, 1, 2}),
        (("spleen",), (True, False, True), {0, 2}),
        ((), (True, False, False), {0}),
    ],
)
def test_the_background_is_always_known_and_a_label_where_it_was_annotated(annotated, outputs, classes, plan):
    assert annotated_outputs(plan, annotated) == outputs
    assert annotated_classes(plan, annotated) == classes


def test_a_class_is_known_when_any_known_region_holds_it(regions_plan):
    assert annotated_outputs(regions_plan, ("core",)) == (False, True, False)
    assert annotated_classes(regions_plan, ("core",)) == {2, 3}


def test_marginal_probabilities_give_the_background_what_is_unknown():
    logits = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2, 3, IGNORED, 0], dtype=torch.uint8).expand(2, 5, 6)
    annotated = torch.tensor([[True, False, True, False], [True, True, True, True]])
    merged, merged_label = marginal(logits, label, annotated)
    before, after = logits.softmax(1), merged.softmax(1)
    torch.testing.assert_close(after[0, 0], before[0, 0] + before[0, 1] + before[0, 3])
    torch.testing.assert_close(after[0, 2], before[0, 2])
    assert (after[0, [1, 3]] == 0).all()
    torch.testing.assert_close(after[1], before[1])
    assert merged_label[0, 0].tolist() == [0, 0, 2, 0, IGNORED, 0]
    assert torch.equal(merged_label[1], label[1])
