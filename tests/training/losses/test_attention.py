import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from attunet.config import Preprocessing
from attunet.data.preprocess import IGNORED
from attunet.errors import ConfigError
from attunet.nn import AttentionUNet
from attunet.training.losses.attention import AttentionLoss, attention_loss, dilate, dilation_in_voxels
from attunet.training.module import TrainingModule
from attunet.training.patches.augmentation import Patch
from attunet.training.patches.dataset import PatchDataset

MARGIN = 1e-3


@pytest.fixture
def loss(tiny_plan, tiny_config):
    """Makes the loss of a plan for patches of 16 x 16 x 8, whose gate lies on a grid of half the size."""

    def make(plan=None, dims=3, spacing=(1.0, 1.0, 1.0), **settings):
        options = {"attention_supervision": 1.0, "attention_dilation": 0.0, **settings}
        plan = plan or tiny_plan(dims=dims)
        preprocessing = Preprocessing(spacing=spacing, normalization=plan.preprocessing.normalization)
        return AttentionLoss(plan.model_copy(update={"preprocessing": preprocessing}), tiny_config(**options))

    return make


def a_label(*voxels, size=(16, 16, 8)):
    label = torch.zeros(1, *size, dtype=torch.uint8)
    for voxel in voxels:
        label[(0, *voxel)] = 1
    return label


def gates(alpha):
    return {"level2": alpha}


def squeezed(alpha):
    return MARGIN + (1 - 2 * MARGIN) * alpha


@pytest.mark.parametrize("dims", [2, 3])
def test_a_gate_should_be_open_where_its_voxel_holds_a_label_and_closed_elsewhere(dims, loss):
    size, voxel = (16, 16, 8)[:dims], (5, 8, 3)[:dims]
    right = torch.zeros(1, 1, *(edge // 2 for edge in size))
    right[(0, 0, *(index // 2 for index in voxel))] = 1
    supervised = loss(dims=dims)
    label = a_label(voxel, size=size)
    assert supervised(gates(right), label) == pytest.approx(-math.log(1 - MARGIN), rel=1e-3)
    assert supervised(gates(1 - right), label) == pytest.approx(-math.log(MARGIN), rel=1e-3)
    even = torch.full_like(right, 0.25)
    expected = (
        -(torch.log(squeezed(1 - even)).sum() - math.log(squeezed(0.75)) + math.log(squeezed(0.25))) / even.numel()
    )
    assert supervised(gates(even), label) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.0, 1.0, 2.0)])
def test_labels_are_dilated_by_millimetres_whatever_the_voxel_size(spacing, tiny_plan):
    voxel, millimetres = (8, 8, 4), 3.0
    plan = tiny_plan(
        preprocessing=Preprocessing(spacing=spacing, normalization=tiny_plan().preprocessing.normalization)
    )
    dilated = dilate(a_label(voxel)[:, None].float(), dilation_in_voxels(plan, millimetres))[0, 0] > 0
    places = np.indices(dilated.shape).reshape(3, -1).T
    away = np.abs(places - voxel) * spacing
    np.testing.assert_array_equal(dilated.numpy().ravel(), (away <= millimetres + 1e-6).all(axis=1))
    box = np.ones([2 * int(millimetres / size + 1e-6) + 1 for size in spacing], bool)
    np.testing.assert_array_equal(dilated, ndimage.binary_dilation(a_label(voxel)[0].numpy(), box))


def test_odd_patches_are_reduced_to_the_grid_that_the_network_returns(loss, tiny_plan):
    label = a_label((14, 14, 6), size=(15, 15, 7))
    attention = AttentionUNet.from_config(tiny_plan().network)(torch.randn(1, 1, 15, 15, 7), detailed=True).attention
    right = torch.zeros_like(attention["level2"])
    right[0, 0, 7, 7, 3] = 1
    assert loss()(gates(right), label) < 2 * MARGIN


def test_ignored_voxels_count_nowhere(loss):
    label = a_label((2, 2, 2))
    label[:, 8:] = IGNORED
    alpha = torch.rand(1, 1, 8, 8, 4, generator=torch.Generator().manual_seed(0))
    other = alpha.clone()
    other[:, :, 4:] = torch.rand(1, 1, 4, 8, 4)
    supervised = loss(attention_sparsity=0.5, attention_dilation=2.0)
    assert supervised(gates(alpha), label) == supervised(gates(other), label)
    cut = supervised(gates(alpha[:, :, :4]), label[:, :8])
    assert supervised(gates(alpha), label) == pytest.approx(float(cut), rel=1e-6)


def test_a_patch_without_annotated_labels_has_no_loss(loss):
    label = torch.full((1, 16, 16, 8), IGNORED, dtype=torch.uint8)
    assert loss(attention_sparsity=1.0)(gates(torch.rand(1, 1, 8, 8, 4)), label) == 0


def test_labels_that_were_not_annotated_may_be_anywhere(loss, tiny_plan):
    plan = tiny_plan(labels={"background": 0, "liver": 1, "spleen": 2})
    label = a_label((2, 2, 2)).repeat(2, 1, 1, 1)
    label[:, 12, 12, 6] = 2
    annotated = torch.tensor([[True, True, False], [True, True, True]])
    supervised, drawn = loss(plan), torch.zeros(1, 1, 8, 8, 4)
    drawn[0, 0, 1, 1, 1] = 1
    for elsewhere in (0.0, 1.0):  # a case in which only the liver was drawn says nothing of the rest
        alpha = torch.where(drawn > 0, drawn, elsewhere)
        assert supervised(gates(alpha), label[:1], annotated[:1]) == pytest.approx(-math.log(1 - MARGIN), rel=1e-3)
    whole = torch.where(drawn > 0, drawn, 0.0)
    whole[0, 0, 6, 6, 3] = 1
    assert supervised(gates(whole), label[1:], annotated[1:]) < 2 * MARGIN
    assert supervised(gates(whole.repeat(2, 1, 1, 1, 1)), label, annotated) < 2 * MARGIN


def test_overlapping_regions_are_foreground_together(loss, regions_plan):
    label = torch.zeros(1, 16, 16, 8, dtype=torch.uint8)
    label[0, 2, 2, 2], label[0, 8, 8, 4] = 1, 3
    right = torch.zeros(1, 1, 8, 8, 4)
    right[0, 0, 1, 1, 1] = right[0, 0, 4, 4, 2] = 1
    assert loss(regions_plan)(gates(right), label) < 2 * MARGIN
    core = torch.tensor([[False, True, False]])  # only its second region was drawn, to which value 1 does not belong
    assert loss(regions_plan)(gates(right), label, core) < 2 * MARGIN


def test_sparsity_is_the_mean_coefficient_of_all_maps_and_gates(tiny_plan, tiny_config):
    network = tiny_plan().network.model_copy(update={"gate": "multi", "gated_levels": (1, 2)})
    config = tiny_config(attention_sparsity=2.0)
    supervised = attention_loss(tiny_plan(network=network), config)
    attention = {"level1": torch.rand(2, 2, 16, 16, 8), "level2": torch.rand(2, 2, 8, 8, 4)}
    expected = 2.0 * (attention["level1"].mean() + attention["level2"].mean()) / 2
    assert supervised(attention, torch.zeros(2, 16, 16, 8)) == pytest.approx(float(expected), rel=1e-5)


def test_coefficients_rounded_to_one_have_a_finite_gradient_under_autocast(loss):
    with torch.autocast("cpu", torch.bfloat16):
        alpha = torch.tensor([1.0, 0.9961], dtype=torch.bfloat16).repeat(128).view(1, 1, 8, 8, 4).requires_grad_()
        value = loss()(gates(alpha), a_label((2, 2, 2)))
    assert value.dtype == torch.float32
    value.backward()
    assert alpha.grad.abs().max() <= 1 / MARGIN / 256 * 1.01


def test_it_is_off_unless_requested(tiny_plan, tiny_config):
    assert attention_loss(tiny_plan(), tiny_config()) is None
    assert attention_loss(tiny_plan(), tiny_config(attention_supervision=0.1)) is not None


@pytest.mark.parametrize("field", ["attention_supervision", "attention_sparsity"])
def test_a_network_without_gates_refuses_both(field, tiny_plan, tiny_config):
    plain = tiny_plan(network=tiny_plan().network.model_copy(update={"gate": None}))
    assert attention_loss(plain, tiny_config()) is None
    with pytest.raises(ConfigError, match="without gates") as caught:
        attention_loss(plain, tiny_config(**{field: 0.1}))
    assert "leave them at 0" in caught.value.hint


def lift_after(steps, plan, config, stored):
    """Share of the attention on the label over the share of the label, after so many steps on the same patches."""
    torch.manual_seed(0)
    module = TrainingModule(plan, config)
    module.log = lambda *_args, **_kwargs: None
    optimizer, patches = module.configure_optimizers(), PatchDataset(stored, plan, config)
    for step in range(steps):
        batch = Patch(*map(torch.stack, zip(*(patches[2 * step + place] for place in range(2)), strict=True)))
        optimizer.zero_grad()
        module.training_step(batch, step).backward()
        optimizer.step()
    label = torch.nn.functional.max_pool3d((batch.label[:, None] == 1).float(), 2)
    alpha = module.attention["level2"]
    return float((alpha * label).sum() / alpha.sum() / label.mean())


def test_supervision_makes_the_gates_look_at_the_labels(tiny_plan, tiny_config, stored):
    settings = {"learning_rate": 1e-2, "foreground_fraction": 1.0, "augmentation": "none", "attention_dilation": 1.0}
    plain = lift_after(25, tiny_plan(), tiny_config(**settings), stored)
    supervised = lift_after(25, tiny_plan(), tiny_config(**settings, attention_supervision=1.0), stored)
    assert supervised > 1.5 * plain
