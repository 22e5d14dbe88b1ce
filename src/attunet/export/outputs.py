"""Shared by all exported networks: named outputs, an example input, and a check against torch in fp32."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from attunet.config import Plan
from attunet.errors import TrainingError
from attunet.inference.engines.protocol import Engine, window_shape
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.nn import AttentionUNet, in_layout

__all__ = [
    "TOLERANCE",
    "NamedOutputs",
    "check_parity",
    "example_input",
    "prepare_for_export",
    "tensor_shapes",
]

TOLERANCE = 1e-3
"""The largest difference of an exported network from torch in fp32 that is accepted, relative to the outputs' scale."""


class NamedOutputs(nn.Module):
    """The network with a dictionary of outputs: logits, then attention by gate."""

    def __init__(self, network: AttentionUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, C, *spatial) to logits (B, classes, *spatial) and level1, ...: (B, maps, *level grid)."""
        result = self.network(image, detailed=True)
        return {"logits": result.logits, **result.attention}


def prepare_for_export(network: AttentionUNet) -> AttentionUNet:
    """The network on the CPU, in eval mode and in torch's default memory layout, which graph converters expect."""
    return in_layout(network.cpu().eval(), torch.contiguous_format)


def example_input(plan: Plan, batch: int = 1) -> Tensor:
    """Noise (batch, C, *patch) from a fixed seed."""
    return torch.randn(batch, *window_shape(plan), generator=torch.Generator().manual_seed(0))


def check_parity(network: AttentionUNet, plan: Plan, engine: Engine, *, tolerance: float = TOLERANCE) -> float:
    """Compare an engine with torch in fp32 on an example input.

    Args:
        network: the reference.
        plan: its plan.
        engine: computes the exported network.
        tolerance: limit of the difference.
    Returns: the largest difference of logits and attention, relative to their scale.
    Raises: TrainingError when it is not below the tolerance, also for logits that are nan.
    """
    patch = example_input(plan).numpy()
    reference, result = TorchEngine(None, network, device="cpu", batch=1)(patch), engine(patch)
    pairs = [(reference.logits, result.logits)]
    pairs += [(reference.attention[name], result.attention[name]) for name in reference.attention]
    difference = max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in pairs)
    if not difference < tolerance:
        raise TrainingError(
            f"{engine.name}: the exported graph differs from the network by {difference:.2g} (allowed: {tolerance})",
            hint="report this with the plan.json; the weights are unchanged",
        )
    return difference


def tensor_shapes(plan: Plan, *, free: bool) -> dict[str, tuple[int | str, ...]]:
    """Name to shape of a graph's inputs and outputs; a string stands for any size.

    Args: whether any multiple of the total stride is accepted, or only the plan's patch.
    """
    network = plan.network
    sizes = window_shape(plan)[1:]
    whole = network.total_strides[-1]

    def grid(stride: tuple[int, ...]) -> tuple[int | str, ...]:
        if not free:
            return tuple(-(-size // step) for size, step in zip(sizes, stride, strict=True))
        return tuple(f"{full // step}{axis}" for full, step, axis in zip(whole, stride, "ijk", strict=False))

    finest = (1,) * network.spatial_dims
    gates = {name: plan.level_strides[name][: network.spatial_dims] for name in network.gate_names}
    return {
        "image": ("batch", network.in_channels, *grid(finest)),
        "logits": ("batch", network.out_channels, *grid(finest)),
        **{gate: ("batch", network.maps_per_gate, *grid(stride)) for gate, stride in gates.items()},
    }
