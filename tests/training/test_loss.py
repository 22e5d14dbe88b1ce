import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss

from attunet.config import TrainingConfig
from attunet.data.preprocess import IGNORED
from attunet.training.loss import SegmentationLoss


def example(*size, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, *size, generator=generator, requires_grad=True)
    return logits, torch.randint(0, classes, (2, *size), generator=generator)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("size", [(6, 5), (6, 5, 4)])
def test_equals_monai_where_nothing_is_ignored(size, background):
    logits, label = example(*size)
    ours = SegmentationLoss(TrainingConfig(include_background=background))(logits, (), label)
    theirs = DiceCELoss(softmax=True, to_onehot_y=True, batch=True, include_background=background)
    torch.testing.assert_close(ours, theirs(logits, label[:, None]))


def test_dice_alone_as_in_the_paper():
    logits, label = example(6, 5, 4)
    ours = SegmentationLoss(TrainingConfig(loss="dice", include_background=True))(logits, (), label)
    torch.testing.assert_close(ours, DiceLoss(softmax=True, to_onehot_y=True, batch=True)(logits, label[:, None]))


@pytest.mark.parametrize("kind", ["dice", "dice_ce"])
def test_ignored_voxels_have_no_say(kind):
    logits, label = example(6, 5, 4)
    label[:, 2:] = IGNORED
    loss = SegmentationLoss(TrainingConfig(loss=kind))
    value = loss(logits, (), label)
    value.backward()
    assert (logits.grad[:, :, 2:] == 0).all()
    assert (logits.grad[:, :, :2] != 0).any()
    # as if the ignored part did not exist
    torch.testing.assert_close(value, loss(logits[:, :, :2], (), label[:, :2]))


def test_a_batch_with_nothing_known_teaches_nothing():
    logits, label = example(4, 4)
    value = SegmentationLoss(TrainingConfig())(logits, (), torch.full_like(label, IGNORED))
    value.backward()
    assert torch.isfinite(value)
    assert (logits.grad == 0).all()


def test_each_coarser_resolution_weighs_half_as_much():
    logits, label = example(8, 8)
    coarse, coarser = (example(size, size, seed=size)[0] for size in (4, 2))
    loss = SegmentationLoss(TrainingConfig())
    parts = [loss(logits, (), label), loss(coarse, (), label[:, ::2, ::2]), loss(coarser, (), label[:, ::4, ::4])]
    expected = (parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75
    torch.testing.assert_close(loss(logits, (coarse, coarser), label), expected)


def test_ignored_voxels_stay_ignored_at_coarser_resolutions():
    _, label = example(8, 8)
    label[:, :4] = IGNORED
    coarse, _ = example(4, 4)
    SegmentationLoss(TrainingConfig())(example(8, 8)[0], (coarse,), label).backward()
    assert (coarse.grad[:, :, :2] == 0).all()
    assert (coarse.grad[:, :, 2:] != 0).any()


def test_it_is_computed_in_32_bits():
    logits, label = example(6, 5)
    half = SegmentationLoss(TrainingConfig())(logits.bfloat16(), (), label)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, SegmentationLoss(TrainingConfig())(logits.bfloat16().float(), (), label))
