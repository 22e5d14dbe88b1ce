"""The gates: their range, their start, and what they let through."""

from __future__ import annotations

import pytest
import torch

from attunet.gates import GATES
from attunet.nn import default
from attunet.nn.blocks import Layers, initialize
from attunet.nn.gate import AttentionGate, CombinedGates, build_gate

LAYERS = Layers(2, "batch", "relu")


def make_gate(kind: str = "grid", **settings: object) -> AttentionGate:
    stride = (1, 1) if GATES[kind].signal == "upsampled" else (2, 2)
    gate = AttentionGate(
        LAYERS, normalized=GATES[kind].normalized, skip=4, signal=6, inner=3, stride=stride, **settings
    )
    initialize(gate, "relu")
    return gate.eval()


@pytest.fixture
def skip() -> torch.Tensor:
    return torch.randn(2, 4, 8, 12)


def signal(kind: str) -> torch.Tensor:
    return torch.randn(2, 6, 8, 12) if kind == "additive" else torch.randn(2, 6, 4, 6)


@pytest.mark.parametrize("kind", ["grid", "additive"])
def test_the_gated_skip_is_the_skip_times_alpha(kind, skip):
    gated, alpha = make_gate(kind)(skip, signal(kind))
    assert alpha.shape == (2, 1, 8, 12)
    assert 0 <= alpha.min() < alpha.max() <= 1
    torch.testing.assert_close(gated, skip * alpha)


@pytest.mark.parametrize("kind", ["grid", "additive"])
def test_the_double_sigmoid_can_neither_close_nor_open(kind, skip):
    gate = make_gate(kind, double_sigmoid=True)
    for bias in (-50.0, 50.0):
        gate.open(bias)
        _, alpha = gate(skip, signal(kind))
        assert 0.499 < alpha.min() <= alpha.max() < 0.732


def test_a_grid_gate_starts_open_and_still_learns(skip):
    gate = make_gate()
    gate.open(3.0)
    _, alpha = gate(skip, signal("grid"))
    torch.testing.assert_close(alpha, torch.full_like(alpha, torch.tensor(3.0).sigmoid().item()), atol=0.02, rtol=0)
    alpha.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in gate.parameters())


def test_an_additive_gate_starts_with_scores_around_its_bias():
    gate = make_gate("additive").train()
    gate.open(3.0)
    _, alpha = gate(torch.randn(8, 4, 16, 16), torch.randn(8, 6, 16, 16))
    assert alpha.logit().mean().item() == pytest.approx(3.0, abs=0.1)


def test_multi_concatenates_two_gates_and_single_projects_one(skip):
    config = default(
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        channels=(4, 6),
        strides=((2, 2),),
        kernel_sizes=((3, 3),) * 2,
    ).config.model_copy(update={"gated_levels": (1,)})
    multi = build_gate(LAYERS, config.model_copy(update={"gate": "multi"}), 1, 6)
    assert isinstance(multi, CombinedGates)
    gated, alpha = multi(skip, signal("grid"))
    assert (gated.shape, alpha.shape) == (skip.shape, (2, 2, 8, 12))
    single = build_gate(LAYERS, config.model_copy(update={"gate_projection": True}), 1, 6)
    gated, alpha = single(skip, signal("grid"))
    assert (gated.shape, alpha.shape) == (skip.shape, (2, 1, 8, 12))
    assert isinstance(build_gate(LAYERS, config, 1, 6), AttentionGate)


@pytest.mark.parametrize("kind", ["grid", "additive"])
def test_a_given_alpha_takes_the_place_of_the_gates_own(kind, skip):
    given = torch.rand(2, 1, 8, 11)
    gated, alpha = make_gate(kind)(skip, signal(kind), given)
    torch.testing.assert_close(alpha, torch.cat([given, given[..., -1:]], dim=-1))  # as the skip was padded
    torch.testing.assert_close(gated, skip * alpha)


def test_each_of_several_gates_is_given_its_own_map(skip):
    gates = CombinedGates(LAYERS, [make_gate(projection=True), make_gate(projection=True)], 4).eval()
    given = torch.rand(2, 2, 8, 12)
    gated, alpha = gates(skip, signal("grid"), given)
    torch.testing.assert_close(alpha, given)
    turned, _ = gates(skip, signal("grid"), given.flip(1))
    assert not torch.allclose(gated, turned)
