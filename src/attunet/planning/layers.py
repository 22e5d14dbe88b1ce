"""The layers of a network as numbers: weights, and what each keeps in memory for the way back. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

from attunet.config import NetworkConfig

__all__ = ["Layer", "count_parameters", "layers_of"]


class Layer(NamedTuple):
    """Some layers of one level: their weights, and the channels that stay in memory until the backward pass.

    Args: level, 1 the finest, on whose grid those channels lie.
    """

    level: int
    parameters: int
    kept: int


def count_parameters(network: NetworkConfig) -> int:
    """Trainable numbers of the `AttentionUNet` with these settings."""
    return sum(layer.parameters for layer in layers_of(network))


def layers_of(network: NetworkConfig) -> Iterator[Layer]:
    """Every layer, in the order of `attunet.nn.AttentionUNet`."""
    yield _stage(network, network.in_channels, 1)
    for level in range(2, len(network.channels) + 1):
        pooled = network.downsample == "max"
        yield _stage(network, network.channels[level - 2], level, strided=not pooled, pooled=pooled)
    yield from _gating(network)
    for level in range(len(network.channels) - 1, 0, -1):
        up, expansion = _upsampling(network, level)
        yield expansion
        yield from _gates(network, level, up)
        yield _stage(network, network.channels[level - 1] + up, level, pooled=True)
    yield from _heads(network)


def _conv(inputs: int, outputs: int, kernel: Sequence[int] = (), *, bias: bool = True) -> int:
    return inputs * outputs * prod(kernel) + outputs * bias


def _conv_norm(network: NetworkConfig, inputs: int, outputs: int, kernel: Sequence[int] = ()) -> int:
    norm = 0 if network.norm == "none" else 2 * outputs
    return _conv(inputs, outputs, kernel, bias=network.norm != "instance") + norm


def _doubled(network: NetworkConfig) -> int:
    """Copies of a convolution's output: it and, where there is a norm, what the norm made of it."""
    return 1 if network.norm == "none" else 2


def _stage(network: NetworkConfig, inputs: int, level: int, *, strided: bool = False, pooled: bool = False) -> Layer:
    """Convolutions of one level; `pooled`: its input is a tensor of its own (pooled, or concatenated)."""
    outputs, kernel = network.channels[level - 1], network.kernel_sizes[level - 1]
    parameters = _conv_norm(network, inputs, outputs, kernel)
    parameters += (network.convolutions - 1) * _conv_norm(network, outputs, outputs, kernel)
    kept = _doubled(network) * network.convolutions * outputs + inputs * pooled
    if network.residual:
        straight = inputs == outputs and not strided
        parameters += 0 if straight else _conv_norm(network, inputs, outputs)
        kept += outputs + (0 if straight else outputs)
    return Layer(level, parameters, kept)


def _gating(network: NetworkConfig) -> Iterator[Layer]:
    deepest = len(network.channels) - 1
    if network.gate in ("grid", "multi") and deepest in network.gate_widths:
        width = network.channels[-1]
        yield Layer(deepest + 1, _conv_norm(network, width, width), _doubled(network) * width)


def _upsampling(network: NetworkConfig, level: int) -> tuple[int, Layer]:
    """Channels that arrive at the level from below, and the layers that bring them."""
    skip, coarse = network.channels[level - 1 : level + 1]
    stride, kernel = network.strides[level - 1], network.kernel_sizes[level - 1]
    if network.upsample == "linear":
        return coarse, Layer(level, 0, 0)
    if network.upsample == "deconv":
        return skip, Layer(level, _conv(coarse, skip, stride), 0)
    wider = tuple(step + 2 for step in stride)
    expansion = _conv(coarse, coarse, wider) if network.upsample == "transpose" else 0
    refined = _conv_norm(network, coarse, skip, kernel)
    return skip, Layer(level, expansion + refined, coarse + _doubled(network) * skip)


def _gates(network: NetworkConfig, level: int, up: int) -> Iterator[Layer]:
    if level not in network.gate_widths:
        return
    skip, coarse = network.channels[level - 1 : level + 1]
    inner, count = network.gate_widths[level], 2 if network.gate == "multi" else 1
    if network.gate == "additive":
        parameters = sum(_conv_norm(network, *pair) for pair in ((skip, inner), (up, inner), (inner, 1)))
        yield Layer(level, parameters, 3 * inner)
    else:
        theta = _conv(skip, inner, network.strides[level - 1], bias=False)
        parameters = theta + _conv(coarse, inner) + _conv(inner, 1)
        yield Layer(level + 1, count * parameters, count * 2 * inner)
    projected = _conv_norm(network, skip, skip) if network.gate_projection else 0
    joined = network.gate_projection or count > 1
    combined = _conv_norm(network, count * skip, skip) if joined else 0
    kept = (count * (2 * skip * network.gate_projection + skip) + 2 * skip) if joined else 0
    yield Layer(level, count * projected + combined, kept + count)


def _heads(network: NetworkConfig) -> Iterator[Layer]:
    headed = network.channels[: 1 if network.deep_supervision == "none" else -1]
    classes = network.out_channels
    for level, width in enumerate(headed, start=1):
        yield Layer(level, _conv(width, classes), classes)
    if network.deep_supervision == "fused":
        yield Layer(1, _conv(len(headed) * classes, classes), 2 * len(headed) * classes)
