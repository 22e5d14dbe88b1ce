"""Weights and operations counted without torch are those of the network."""

from __future__ import annotations

from math import prod
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from attunet.config import NetworkConfig
from attunet.gates import Gate
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
    stored = {layer.level for layer in layers_of(default()) if layer.stored}
    assert stored == {1, 2, 3, 4}


@st.composite
def configurations(draw):
    """Any network that `NetworkConfig` accepts, small."""
    dims, levels = draw(st.integers(2, 3)), draw(st.integers(2, 4))
    per_axis = [st.tuples(*[values] * dims) for values in (st.integers(1, 3), st.sampled_from([1, 3]))]
    gated = draw(st.none() | st.lists(st.integers(1, levels - 1), unique=True).map(tuple))
    count = levels - 2 if gated is None else len(gated)
    widths = st.integers(1, 7)
    choices = {
        name: draw(st.sampled_from(get_args(NetworkConfig.model_fields[name].annotation)))
        for name in ("norm", "activation", "downsample", "upsample", "deep_supervision")
    }
    return NetworkConfig(
        spatial_dims=dims,
        in_channels=draw(widths),
        out_channels=draw(widths),
        channels=draw(st.tuples(*[widths] * levels)),
        strides=draw(st.tuples(*[per_axis[0]] * (levels - 1))),
        kernel_sizes=draw(st.tuples(*[per_axis[1]] * levels)),
        convolutions=draw(st.integers(1, 3)),
        gate=draw(st.sampled_from([*get_args(Gate), None])),
        gated_levels=gated,
        gate_channels=draw(st.none() | st.tuples(*[widths] * count)),
        gate_projection=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.1])),
        residual=draw(st.booleans()),
        **choices,
    )


@settings(max_examples=25)
@given(config=configurations(), multiple=st.integers(2, 3))
def test_any_network_has_the_planned_weights_operations_and_grids(config, multiple):
    patch = [multiple * stride for stride in config.total_strides[-1]]
    with torch.device("meta"):
        network = AttentionUNet.from_config(config).eval()
        window = torch.empty(1, config.in_channels, *patch)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(window)
    with torch.inference_mode():
        detailed = network(window, detailed=True)
    assert count_parameters(config) == sum(weight.numel() for weight in network.parameters())
    assert count_flops(config, patch) == counter.get_total_flops()
    grids = [tuple(size // step for size, step in zip(patch, stride, strict=True)) for stride in config.total_strides]
    assert tuple(detailed.attention) == config.gate_names
    for name, level in zip(config.gate_names, config.gate_widths, strict=True):
        assert detailed.attention[name].shape == (1, config.maps_per_gate, *grids[level - 1])
    for logits, grid in zip(detailed.auxiliary, grids[1:], strict=False):
        assert logits.shape == (1, config.out_channels, *grid)


def kept_numbers(config, patch):
    """Numbers of all activations that autograd keeps for the backward pass of one patch."""
    stored = {}

    def keep(tensor):
        stored[tensor.untyped_storage()._cdata] = (tensor.numel(), tensor)
        return tensor

    with torch.device("meta"):
        network = AttentionUNet.from_config(config).train()
        window = torch.empty(1, config.in_channels, *patch)
    weights = {weight.untyped_storage()._cdata for weight in (*network.parameters(), *network.buffers())}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(window, detailed=True)
    del outputs
    return sum(count for storage, (count, _) in stored.items() if storage not in weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_activations_are_about_those_that_autograd_keeps(name):
    config = NETWORKS[name]
    patch = [3 * stride for stride in config.total_strides[-1]]
    voxels = [prod(size // step for size, step in zip(patch, stride, strict=True)) for stride in config.total_strides]
    planned = sum(layer.stored * voxels[layer.level - 1] for layer in layers_of(config))
    assert 0.8 < kept_numbers(config, patch) / planned < 1.1
