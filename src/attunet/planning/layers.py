"""The cost of a network's layers: parameters, multiply-adds, and memory for the backward pass. Does not need torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from attunet.config import NetworkConfig
from attunet.gates import GATES

__all__ = ["Layer", "count_flops", "count_parameters", "layers_of"]


class Layer(NamedTuple):
    """The cost of some layers of one level.

    Args:
        level: 1 is the finest.
        parameters: number of trainable parameters.
        stored: channels on the level's grid that stay in memory until the backward pass.
        operations: multiply-adds per voxel of the level's grid, in a prediction.
        recomputed: those of the stored channels that gradient checkpointing recomputes.
    """

    level: int
    parameters: int
    stored: int
    operations: int
    recomputed: int = 0


@dataclass(frozen=True)
class _Cost:
    """Parameters of some convolutions, and their multiply-adds per output voxel."""

    parameters: int = 0
    operations: int = 0

    def __add__(self, other: _Cost) -> _Cost:
        return _Cost(self.parameters + other.parameters, self.operations + other.operations)

    def __mul__(self, times: int) -> _Cost:
        return _Cost(self.parameters * times, self.operations * times)

    def on(self, level: int, *, stored: int) -> Layer:
        return Layer(level, self.parameters, stored, self.operations)


def count_parameters(network: NetworkConfig) -> int:
    """Number of trainable parameters of the `AttentionUNet` with these settings."""
    return sum(layer.parameters for layer in layers_of(network))


def count_flops(network: NetworkConfig, patch: Sequence[int]) -> int:
    """Floating-point operations to predict one patch (its size along the network's axes, or along three axes).

    A multiply-add counts as two. Only convolutions count, as in torch; the few operations of norms, activations and
    interpolation are left out, and so are the auxiliary logits, which are computed only in training.
    """
    strides = network.total_strides
    size = [-(-length // step) * step for length, step in zip(patch, strides[-1], strict=False)]
    voxels = [prod(length // step for length, step in zip(size, stride, strict=True)) for stride in strides]
    return 2 * sum(layer.operations * voxels[layer.level - 1] for layer in layers_of(network))


def layers_of(network: NetworkConfig) -> Iterator[Layer]:
    """Every layer, in the order of `attunet.nn.AttentionUNet`."""
    yield _stage(network, network.in_channels, 1)
    for level in range(2, len(network.channels) + 1):
        pooled = network.downsample == "max"
        yield _stage(network, network.channels[level - 2], level, strided=not pooled, pooled=pooled)
    yield from _gating(network)
    for level in range(len(network.channels) - 1, 0, -1):
        up, expansion = _upsampling(network, level)
        yield from expansion
        yield from _gates(network, level, up)
        yield _stage(network, network.channels[level - 1] + up, level, pooled=True)
    yield from _heads(network)


def _conv(inputs: int, outputs: int, kernel: Sequence[int] = (), *, bias: bool = True) -> _Cost:
    weights = inputs * outputs * prod(kernel)
    return _Cost(weights + outputs * bias, weights)


def _conv_norm(network: NetworkConfig, inputs: int, outputs: int, kernel: Sequence[int] = ()) -> _Cost:
    norm = 0 if network.norm == "none" else 2 * outputs
    return _conv(inputs, outputs, kernel, bias=network.norm != "instance") + _Cost(norm)


def _doubled(network: NetworkConfig) -> int:
    """Number of copies of a convolution's output: itself and, if there is a norm, the norm's output."""
    return 1 if network.norm == "none" else 2


def _stage(network: NetworkConfig, inputs: int, level: int, *, strided: bool = False, pooled: bool = False) -> Layer:
    """Convolutions of one level; `pooled`: its input is a tensor of its own (pooled, or concatenated)."""
    outputs, kernel = network.channels[level - 1], network.kernel_sizes[level - 1]
    cost = _conv_norm(network, inputs, outputs, kernel)
    cost += _conv_norm(network, outputs, outputs, kernel) * (network.convolutions - 1)
    stored = _doubled(network) * network.convolutions * outputs + inputs * pooled
    if network.residual:
        straight = inputs == outputs and not strided
        cost += _Cost() if straight else _conv_norm(network, inputs, outputs)
        stored += outputs + (0 if straight else outputs)
    return cost.on(level, stored=stored)._replace(recomputed=stored - outputs - inputs * pooled)


def _gating(network: NetworkConfig) -> Iterator[Layer]:
    deepest = len(network.channels) - 1
    if network.gate and GATES[network.gate].signal == "coarse" and deepest in network.gate_widths:
        width = network.channels[-1]
        yield _conv_norm(network, width, width).on(deepest + 1, stored=_doubled(network) * width)


def _upsampling(network: NetworkConfig, level: int) -> tuple[int, tuple[Layer, ...]]:
    """Channels that come from the coarser level, and the layers that produce them."""
    skip, coarse = network.channels[level - 1 : level + 1]
    stride, kernel = network.strides[level - 1], network.kernel_sizes[level - 1]
    if network.upsample == "linear":
        return coarse, ()
    # A transposed convolution computes once per input voxel.
    if network.upsample == "deconv":
        return skip, (_conv(coarse, skip, stride).on(level + 1, stored=0),)
    wider = tuple(step + 2 for step in stride)
    expansion = _conv(coarse, coarse, wider) if network.upsample == "transpose" else _Cost()
    refined = _conv_norm(network, coarse, skip, kernel)
    return skip, (expansion.on(level + 1, stored=0), refined.on(level, stored=coarse + _doubled(network) * skip))


def _gates(network: NetworkConfig, level: int, up: int) -> Iterator[Layer]:
    if not network.gate or level not in network.gate_widths:
        return
    kind = GATES[network.gate]
    skip, coarse = network.channels[level - 1 : level + 1]
    inner, count = network.gate_widths[level], kind.maps
    on_skip = kind.signal == "upsampled"
    signal, stride = (up, ()) if on_skip else (coarse, network.strides[level - 1])
    if kind.normalized:
        cost = sum((_conv_norm(network, *pair) for pair in ((skip, inner), (signal, inner), (inner, 1))), _Cost())
    else:
        cost = _conv(skip, inner, stride, bias=False) + _conv(signal, inner) + _conv(inner, 1)
    stored = (3 if kind.normalized else 2) * inner
    yield (cost * count).on(level if on_skip else level + 1, stored=count * stored)
    projected = _conv_norm(network, skip, skip) if network.gate_projection else _Cost()
    joined = network.gate_projection or count > 1
    combined = _conv_norm(network, count * skip, skip) if joined else _Cost()
    stored = (count * (2 * skip * network.gate_projection + skip) + 2 * skip) if joined else 0
    yield (projected * count + combined).on(level, stored=stored + count)


def _heads(network: NetworkConfig) -> Iterator[Layer]:
    headed = network.channels[: 1 if network.deep_supervision == "none" else -1]
    classes = network.out_channels
    for level, width in enumerate(headed, start=1):
        head = _conv(width, classes).on(level, stored=classes)
        auxiliary = level > 1 and network.deep_supervision == "auxiliary"
        yield head._replace(operations=0) if auxiliary else head
    if network.deep_supervision == "fused":
        yield _conv(len(headed) * classes, classes).on(1, stored=2 * len(headed) * classes)
