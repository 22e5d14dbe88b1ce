"""The layers: sizes, memory layout and equality with torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from attunet.nn.blocks import ConvNorm, InstanceNorm, Layers, Upsample, crop, interpolate

BATCH = Layers(3, "batch", "relu")
INSTANCE = Layers(3, "instance", "leaky_relu")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_instance_norm_is_torchs_with_its_gradients(training, layout):
    x = torch.randn(2, 3, 4, 5, 6).contiguous(memory_format=layout).requires_grad_()
    weight, bias = torch.randn(3), torch.randn(3)
    norm = InstanceNorm(3).train(training)
    norm.load_state_dict({"weight": weight, "bias": bias})
    expected = F.instance_norm(x, weight=weight, bias=bias)
    ours = norm(x)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    (expected_gradient,) = torch.autograd.grad((expected**3).sum(), x)
    (gradient,) = torch.autograd.grad((ours**3).sum(), x)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-3, rtol=1e-4)


def test_instance_norm_keeps_the_channels_last_layout():
    x = torch.randn(2, 3, 4, 4, 4).contiguous(memory_format=torch.channels_last_3d)
    assert InstanceNorm(3)(x).is_contiguous(memory_format=torch.channels_last_3d)


def test_convolutions_have_a_bias_unless_instance_norm_cancels_it():
    assert ConvNorm(BATCH, 2, 4).conv.bias is not None
    assert ConvNorm(INSTANCE, 2, 4).conv.bias is None
    assert ConvNorm(Layers(2, "none", "relu"), 2, 4).conv.bias is not None


def test_state_dict_names_say_what_they_are():
    assert set(ConvNorm(INSTANCE, 2, 4).state_dict()) == {"conv.weight", "norm.weight", "norm.bias"}


@pytest.mark.parametrize("kind", ["deconv", "linear", "nearest", "transpose"])
@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (1, 1, 1), (3, 2, 1)])
def test_upsampling_reaches_the_skips_grid(kind, stride):
    up = Upsample(INSTANCE, kind, 6, 4, stride=stride, kernel=(3, 3, 3))
    size = tuple(s * n for s, n in zip(stride, (3, 4, 5), strict=True))
    assert up(torch.randn(2, 6, 3, 4, 5), size).shape == (2, up.out_channels, *size)
    assert up.out_channels == (6 if kind == "linear" else 4)


def test_resize_and_crop_copy_nothing_when_the_size_is_right():
    x = torch.randn(1, 2, 4, 6)
    assert interpolate(x, (4, 6)) is x
    assert crop(x, (4, 6)) is x
    torch.testing.assert_close(crop(x, (3, 5)), x[..., :3, :5])
