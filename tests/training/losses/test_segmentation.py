from typing import get_args

import pytest
import torch
from monai.losses import DiceCELoss, DiceFocalLoss, DiceLoss, TverskyLoss
from torch.nn import functional

from attunet.config import TrainingConfig
from attunet.data.preprocess import IGNORED
from attunet.errors import ConfigError
from attunet.training.losses.segmentation import LOSSES, SegmentationLoss
from attunet.training.losses.targets import class_targets, marginal, output_classes

KINDS = sorted(LOSSES)
SETTINGS = {"softmax": True, "to_onehot_y": True}


def test_every_loss_of_a_recipe_is_in_the_table():
    assert set(LOSSES) == set(get_args(TrainingConfig.model_fields["loss"].annotation))


@pytest.fixture(scope="module")
def loss_of(tiny_plan):
    """Makes a loss over three labels; keyword arguments are settings of the training."""

    def make(dims=3, **settings):
        plan = tiny_plan(dims=dims, labels={"background": 0, "liver": 1, "spleen": 5})
        return SegmentationLoss(plan, TrainingConfig(**settings))

    return make


@pytest.fixture(scope="module")
def region_loss(make_regions_plan):
    """Makes a loss over three nested regions."""
    return lambda dims=3, **settings: SegmentationLoss(make_regions_plan(dims), TrainingConfig(**settings))


def example(*size, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, *size, generator=generator, requires_grad=True)
    return logits, torch.randint(0, classes, (2, *size), generator=generator)


def partly(*missing):
    """Everything is annotated but these (case, output)."""
    annotated = torch.ones(2, 3, dtype=torch.bool)
    for place in missing:
        annotated[place] = False
    return annotated


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("size", [(6, 5), (6, 5, 4)])
def test_equals_monai_where_nothing_is_ignored(size, batch, background, loss_of):
    logits, label = example(*size)
    ours = loss_of(len(size), include_background=background, batch_dice=batch)(logits, (), label)
    theirs = DiceCELoss(**SETTINGS, batch=batch, include_background=background)
    torch.testing.assert_close(ours, theirs(logits, label[:, None]))


def test_dice_alone_as_in_the_paper(loss_of):
    logits, label = example(6, 5, 4)
    ours = loss_of(loss="dice", include_background=True)(logits, (), label)
    torch.testing.assert_close(ours, DiceLoss(**SETTINGS, batch=True)(logits, label[:, None]))


def test_tversky_weighs_what_is_missed_and_what_is_invented(loss_of):
    logits, label = example(6, 5, 4)
    ours = loss_of(loss="tversky_ce", tversky_beta=0.8)(logits, (), label)
    overlap = TverskyLoss(**SETTINGS, batch=True, include_background=False, alpha=0.2, beta=0.8)(logits, label[:, None])
    torch.testing.assert_close(ours, overlap + functional.cross_entropy(logits, label))


def test_focal_loss_of_the_true_class_is_averaged_over_the_voxels(loss_of):
    logits, label = example(6, 5, 4)
    ours = loss_of(loss="dice_focal", focal_gamma=1.5)(logits, (), label)
    dice = loss_of(loss="dice")(logits, (), label)
    right = logits.softmax(1).gather(1, label[:, None])
    torch.testing.assert_close(ours, dice + (-((1 - right) ** 1.5) * right.log()).mean())
    torch.testing.assert_close(
        loss_of(loss="dice_focal", focal_gamma=0)(logits, (), label), loss_of(loss="dice_ce")(logits, (), label)
    )


@pytest.mark.parametrize("kind", ["dice_ce", "tversky_ce"])
def test_class_weights_are_those_of_the_cross_entropy(kind, loss_of):
    logits, label = example(6, 5)
    plain, weighted = (
        loss_of(2, loss=kind, class_weights=weights)(logits, (), label) for weights in ({}, {"spleen": 4.0})
    )
    weights = torch.tensor([1.0, 1.0, 4.0])
    entropies = [functional.cross_entropy(logits, label, weight) for weight in (None, weights)]
    torch.testing.assert_close(weighted - plain, entropies[1] - entropies[0])


def test_class_weights_that_say_nothing_are_refused(loss_of):
    with pytest.raises(ConfigError, match="names kidney") as caught:
        loss_of(class_weights={"kidney": 2.0})
    assert "background, liver, spleen" in caught.value.hint
    with pytest.raises(ConfigError, match="no effect on the loss dice"):
        loss_of(loss="dice", class_weights={"liver": 2.0})
    with pytest.raises(ConfigError, match="0 for every output"):
        loss_of(class_weights=dict.fromkeys(("background", "liver", "spleen"), 0.0))


@pytest.mark.parametrize("dims", [2, 3])
def test_regions_are_sigmoids_with_dice_and_binary_cross_entropy(dims, region_loss, make_regions_plan):
    logits, label = example(*(6, 5, 4)[:dims], classes=4)
    target = class_targets(label, output_classes(make_regions_plan()))
    expected = DiceLoss(sigmoid=True, batch=True)(logits, target)
    expected = expected + functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(region_loss(dims)(logits, (), label), expected)


def test_focal_loss_of_regions_equals_monais(region_loss, regions_plan):
    logits, label = example(6, 5, 4, classes=4)
    theirs = DiceFocalLoss(sigmoid=True, batch=True, gamma=2.0)(
        logits, class_targets(label, output_classes(regions_plan))
    )
    torch.testing.assert_close(region_loss(loss="dice_focal")(logits, (), label), theirs)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_ignored_voxels_have_no_say(kind, batch, loss_of, region_loss):
    for loss, classes in ((loss_of(loss=kind, batch_dice=batch), 3), (region_loss(loss=kind, batch_dice=batch), 4)):
        logits, label = example(6, 5, 4, classes=classes)
        label[:, 2:] = IGNORED
        value = loss(logits, (), label)
        value.backward()
        assert (logits.grad[:, :, 2:] == 0).all()
        assert (logits.grad[:, :, :2] != 0).any()
        # as if the ignored part did not exist
        torch.testing.assert_close(value, loss(logits[:, :, :2], (), label[:, :2]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [True, False])
def test_full_annotation_is_the_plain_loss(kind, batch, loss_of, region_loss):
    for loss, classes in ((loss_of(loss=kind, batch_dice=batch), 3), (region_loss(loss=kind, batch_dice=batch), 4)):
        logits, label = example(6, 5, 4, classes=classes)
        value = loss.at_one_resolution(logits, label.to(torch.uint8), partly())
        torch.testing.assert_close(value, loss(logits, (), label))
        assert torch.equal(loss(logits, (), label, partly()), loss(logits, (), label))


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("kind", ["dice_ce", "dice"])
def test_a_label_that_was_not_annotated_is_part_of_the_background(kind, batch, loss_of, tiny_plan):
    settings = {"loss": kind, "batch_dice": batch}
    logits, label = example(6, 5, 4, classes=2)
    ours = loss_of(**settings)(logits, (), label, partly((0, 2), (1, 2)))
    merged = torch.stack([torch.logsumexp(logits[:, [0, 2]], 1), logits[:, 1]], 1)
    two = SegmentationLoss(tiny_plan(labels={"background": 0, "liver": 1}), TrainingConfig(**settings))
    torch.testing.assert_close(ours, two(merged, (), label))


@pytest.mark.parametrize("kind", KINDS)
def test_of_an_unknown_label_the_share_between_it_and_background_is_free(kind, loss_of):
    logits, label = example(6, 5, 4, classes=2)
    other = logits.detach().clone()
    other[:, [0, 2]] = other[:, [2, 0]]  # the same sum, told apart otherwise
    annotated = partly((0, 2), (1, 2))
    loss = loss_of(loss=kind)
    torch.testing.assert_close(loss(logits, (), label, annotated), loss(other, (), label, annotated))


@pytest.mark.parametrize("kind", KINDS)
def test_regions_that_were_not_annotated_do_not_count(kind, region_loss):
    logits, label = example(6, 5, 4, classes=4)
    annotated = partly((0, 1), (1, 1), (1, 2))
    loss = region_loss(loss=kind)
    value = loss(logits, (), label, annotated)
    value.backward()
    assert ((logits.grad != 0).flatten(2).any(2) == annotated).all()
    changed = logits.detach().clone()
    changed[~annotated] = 7.0
    torch.testing.assert_close(loss(changed, (), label, annotated), value)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["no foreground", "all ignored", "none annotated", "sure and wrong"])
def test_corner_cases_have_finite_gradients(case, kind, batch, loss_of, region_loss):
    losses = (loss_of(loss=kind, batch_dice=batch), True), (region_loss(loss=kind, batch_dice=batch), False)
    for loss, exclusive in losses:
        logits, label = example(6, 5, 4)
        annotated = torch.zeros(2, 3, dtype=torch.bool) if case == "none annotated" else partly()
        annotated[:, 0] |= exclusive
        label = torch.full_like(label, IGNORED if case == "all ignored" else 0)
        if case == "sure and wrong":
            logits = (logits.detach() - torch.tensor([1e4, 0, 0]).view(3, 1, 1, 1)).requires_grad_()
        value = loss(logits, (), label, annotated)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()
        if case == "all ignored":
            assert (logits.grad == 0).all()


def test_each_coarser_resolution_weighs_half_as_much(loss_of):
    logits, label = example(8, 8)
    coarse, coarser = (example(size, size, seed=size)[0] for size in (4, 2))
    loss = loss_of(2)
    parts = [loss(logits, (), label), loss(coarse, (), label[:, ::2, ::2]), loss(coarser, (), label[:, ::4, ::4])]
    expected = (parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75
    torch.testing.assert_close(loss(logits, (coarse, coarser), label), expected)


def test_ignored_voxels_stay_ignored_at_coarser_resolutions(loss_of):
    _, label = example(8, 8)
    label[:, :4] = IGNORED
    coarse, _ = example(4, 4)
    loss_of(2)(example(8, 8)[0], (coarse,), label).backward()
    assert (coarse.grad[:, :, :2] == 0).all()
    assert (coarse.grad[:, :, 2:] != 0).any()


def test_what_is_unknown_stays_so_at_coarser_resolutions(region_loss):
    coarse, _ = example(4, 4)
    _, label = example(8, 8, classes=4)
    region_loss(2)(example(8, 8)[0], (coarse,), label, partly((0, 1), (1, 1))).backward()
    assert (coarse.grad[:, 1] == 0).all()
    assert (coarse.grad[:, 0] != 0).all()


@pytest.mark.parametrize("annotated", [None, partly((0, 2))])
def test_it_is_computed_in_32_bits(annotated, loss_of):
    logits, label = example(6, 5)
    half = loss_of(2)(logits.bfloat16(), (), label, annotated)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss_of(2)(logits.bfloat16().float(), (), label, annotated))


def test_it_leaves_nothing_in_a_checkpoint(loss_of):
    assert not loss_of(class_weights={"liver": 2.0}).state_dict()


def test_labels_beyond_255_count_as_any_other(tiny_plan):
    plan = tiny_plan(dims=2, labels={"background": 0, **{f"l{value}": value for value in range(1, 301)}})
    codes = torch.tensor([classes[0] for classes in output_classes(plan)])
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 301, 8, 8, generator=generator)
    label = torch.randint(0, 301, (2, 8, 8), generator=generator)
    label[:, :2] = 299
    ours = SegmentationLoss(plan, TrainingConfig(include_background=True, batch_dice=True))
    value = ours(logits, (logits[:, :, ::2, ::2],), codes[label].to(torch.int16))
    coarse = label[:, ::2, ::2]
    theirs = DiceCELoss(**SETTINGS, batch=True, include_background=True)
    expected = (theirs(logits, label[:, None]) + 0.5 * theirs(logits[:, :, ::2, ::2], coarse[:, None])) / 1.5
    torch.testing.assert_close(value, expected)
    ignored = torch.where(label == 299, IGNORED, codes[label]).to(torch.int16)
    assert ours(logits, (), ignored) != ours(logits, (), codes[label].to(torch.int16))
    annotated = torch.ones(2, 301, dtype=torch.bool)
    annotated[:, 299] = False
    merged, stored = marginal(logits, codes[label], annotated)
    assert (stored[label == 299] == 0).all()
    assert torch.equal(stored[label != 299], codes[label][label != 299])
    assert (merged.softmax(1)[:, 299] == 0).all()
