"""The presets have the parameters their originals have, and the default what we say of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attunet.nn import AttentionUNet, default, listing, paper


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(autouse=True)
def no_storage():
    with torch.device("meta"):
        yield


@pytest.mark.parametrize(("variant", "count"), [("unet", 5_888_004), ("single", 6_214_151), ("multi", 6_473_322)])
def test_paper_counts(variant, count):
    assert parameters(paper(variant)) == count


@pytest.mark.parametrize(("upsample", "count"), [("transpose", 57_162_733), ("nearest", 34_878_573)])
def test_listing_counts(upsample, count):
    assert parameters(listing(upsample)) == count


def test_only_the_listing_has_a_double_sigmoid_and_only_when_asked():
    with pytest.warns(UserWarning, match=r"\(0\.5, 0\.731\)"):
        assert listing(double_sigmoid=True).config.double_sigmoid
    assert not listing().config.double_sigmoid


def test_default_gates_all_skips_but_the_finest():
    network = default(
        spatial_dims=3,
        in_channels=2,
        out_channels=3,
        channels=(4, 8, 16, 32),
        strides=((1, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    )
    assert isinstance(network, AttentionUNet)
    assert sorted(network.gates) == ["level2", "level3"]
    assert (network.config.norm, network.config.upsample, network.config.deep_supervision) == (
        "instance",
        "deconv",
        "auxiliary",
    )
