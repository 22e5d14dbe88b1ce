"""Gradient checkpointing changes what training stores, but not its results."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from attunet.networks import default_network
from attunet.nn import AttentionUNet


def network_with(dims=3, **changes):
    config = default_network(
        spatial_dims=dims,
        in_channels=1,
        out_channels=2,
        channels=(4, 6, 8),
        strides=((2,) * dims,) * 2,
        kernel_sizes=((3,) * dims,) * 3,
    )
    torch.manual_seed(0)
    return AttentionUNet.from_config(type(config)(**{**config.model_dump(), **changes}))


def pair(**settings):
    """A network and its copy that is computed again."""
    plain = network_with(**settings)
    again = deepcopy(plain)
    again.recompute_stages()
    return plain, again


def trained(network, x, kept=None):
    """Logits after a step's way forth and back; `kept` collects the bytes that it holds between them."""

    def keep(tensor):
        if kept is not None:
            kept.append(tensor.nbytes)
        return tensor

    torch.manual_seed(1)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = network(x, detailed=True)
    torch.stack([(logits**2).sum() for logits in (result.logits, *result.auxiliary)]).sum().backward()
    return result.logits


SETTINGS = {
    "3-D": {},
    "2-D": {"dims": 2},
    "batch norm": {"norm": "batch"},
    "dropout": {"dropout": 0.5},
    "residual, pooled": {"residual": True, "downsample": "max"},
    "multi": {"gate": "multi"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_is_the_same(name):
    plain, again = pair(**SETTINGS[name])
    x = torch.randn(2, 1, *(16, 16, 8)[: plain.config.spatial_dims])
    assert torch.equal(trained(plain, x), trained(again, x))
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(plain.buffers(), again.buffers(), strict=True):
        assert torch.equal(one, other)


def test_less_is_kept():
    held = []
    for network in pair():
        kept = []
        trained(network, torch.randn(2, 1, 16, 16, 8), kept)
        held.append(sum(kept))
    assert held[1] < 0.7 * held[0]


def test_a_prediction_is_not_computed_twice():
    _, network = pair()
    calls = []
    network.encoder["level1"].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        network.eval()(torch.randn(1, 1, 16, 16, 8))
    assert len(calls) == 1
    assert network.state_dict().keys() == network_with().state_dict().keys()
