"""Weights and operations counted without torch are those of the network."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attunet.networks import default_network, listing_network, paper_network
from attunet.nn import AttentionUNet
from attunet.planning.layers import count_flops, count_parameters, layers_of


def default(dims=3, **changes):
    network = default_network(
        spatial_dims=dims,
        in_channels=2,
        out_channels=3,
        channels=(4, 6, 8, 12),
        strides=((2, 2, 1)[:dims], (2,) * dims, (1, 2, 2)[:dims]),
        kernel_sizes=((3, 3, 1)[:dims], *((3,) * dims,) * 3),
    )
    return type(network)(**{**network.model_dump(), **changes})


NETWORKS = {
    **{f"{dims}-D": default(dims) for dims in (2, 3)},
    **{f"gate {gate}": default(gate=gate) for gate in ("grid", "multi", "additive", None)},
    **{f"up {kind}": default(2, strides=((2, 2),) * 3, upsample=kind) for kind in ("linear", "nearest", "transpose")},
    **{f"norm {norm}": default(norm=norm) for norm in ("batch", "none")},
    **{f"supervision {kind}": default(deep_supervision=kind) for kind in ("fused", "none")},
    **{f"residual {down}": default(residual=True, downsample=down) for down in ("stride", "max")},
    "residual of one width": default(residual=True, downsample="max", channels=(8, 8, 8, 8)),
    "projection": default(gate_projection=True, gated_levels=(1, 3), gate_channels=(5, 7)),
    "three convolutions": default(convolutions=3),
    "paper": paper_network("multi", channels=(4, 8, 12, 16, 20)),
    "listing": listing_network(channels=(4, 8, 12, 16, 20)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_are_the_networks(name):
    with torch.device("meta"):
        network = AttentionUNet.from_config(NETWORKS[name])
    assert count_parameters(NETWORKS[name]) == sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_operations_are_those_that_torch_counts(name):
    config = NETWORKS[name]
    patch = (32, 48, 16)[: config.spatial_dims] if config.spatial_dims == 3 else (32, 48, 1)
    with torch.device("meta"):
        network = AttentionUNet.from_config(config).eval()
        window = torch.empty(1, config.in_channels, *patch[: config.spatial_dims])
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(window)
    assert count_flops(config, patch) == counter.get_total_flops()


def test_a_window_is_counted_as_the_network_pads_it():
    assert count_flops(default(), (30, 47, 13)) == count_flops(default(), (32, 48, 16))


def test_published_networks_have_their_published_size():
    sizes = [count_parameters(paper_network(variant)) for variant in ("unet", "single", "multi")]
    assert sizes == [5_888_004, 6_214_151, 6_473_322]
    assert count_parameters(listing_network("nearest")) == 34_878_573


def test_every_level_keeps_something():
    kept = {layer.level for layer in layers_of(default()) if layer.kept}
    assert kept == {1, 2, 3, 4}
