"""The attention gates: coefficients in [0, 1] that scale a skip, voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attunet.config import NetworkConfig
from attunet.gates import GATES
from attunet.nn.blocks import ConvNorm, Layers, interpolate, pad_to

__all__ = ["AttentionGate", "CombinedGates", "build_gate"]


class AttentionGate(nn.Module):
    """alpha = sigmoid(psi(relu(theta(x) + phi(g)))); the gate returns alpha * x for the skip x.

    Args:
        layers: creates the convolutions and norms.
        normalized: True for the popular listing's gate: theta, phi and psi are 1x1 convolutions, each with norm.
            False for the paper's: theta is a convolution with kernel = stride and no bias, phi and psi are 1x1
            convolutions.
        skip, signal, inner: channels of x, of g and between theta and psi.
        stride: from x's grid to g's; 1 on each axis when g lies on x's grid.
        projection: whether alpha * x passes W, a 1x1 convolution and norm.
        double_sigmoid: apply the sigmoid twice, so that alpha can only lie in (0.5, 0.731).
    Source: Oktay et al. 2018 (arXiv:1804.03999), equations 1 and 2, figure 2.
    """

    def __init__(
        self,
        layers: Layers,
        *,
        normalized: bool,
        skip: int,
        signal: int,
        inner: int,
        stride: Sequence[int],
        projection: bool = False,
        double_sigmoid: bool = False,
    ) -> None:
        super().__init__()
        if normalized:
            self.theta: nn.Module = ConvNorm(layers, skip, inner, stride=stride, active=False)
            self.phi: nn.Module = ConvNorm(layers, signal, inner, active=False)
            self.psi: nn.Module = ConvNorm(layers, inner, 1, active=False)
        else:
            self.theta = layers.patch_conv(skip, inner, stride)
            self.phi = layers.conv(signal, inner)
            self.psi = layers.conv(inner, 1)
        self.project = ConvNorm(layers, skip, skip, active=False) if projection else nn.Identity()
        self.double_sigmoid = double_sigmoid

    def forward(self, x: Tensor, g: Tensor, alpha: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale a skip by its coefficients.

        Args:
            x: the skip, (B, skip, *fine).
            g: the gating signal, (B, signal, *coarse).
            alpha: coefficients (B, 1, *fine) to use instead of the gate's own; if x was padded, their border is
                repeated.
        Returns: the gated skip, and alpha (B, 1, *fine).
        """
        alpha = self.coefficients(x, g) if alpha is None else pad_to(alpha, x.shape[2:])
        return self.project(alpha * x), alpha

    def coefficients(self, x: Tensor, g: Tensor) -> Tensor:
        """Alpha (B, 1, *fine) in [0, 1] for a skip and a signal as in `forward`."""
        theta = self.theta(x)
        alpha = torch.sigmoid(self.psi(F.relu(theta + interpolate(self.phi(g), theta.shape[2:]))))
        if self.double_sigmoid:
            alpha = torch.sigmoid(alpha)
        return interpolate(alpha, x.shape[2:])

    def open(self, bias: float) -> None:
        """Initialize the gate so that alpha is close to sigmoid(bias) everywhere, for any x and g.

        A norm after psi determines the spread of its scores, so only their mean can be chosen.
        """
        last = self.psi[-1] if isinstance(self.psi, ConvNorm) else self.psi
        if isinstance(last, nn.Conv2d | nn.Conv3d):
            # near zero but not zero, so that theta and phi learn from the first step
            nn.init.normal_(last.weight, std=0.01)
        assert isinstance(last.bias, Tensor)
        nn.init.constant_(last.bias, bias)


class CombinedGates(nn.Module):
    """Gates side by side on one skip, their outputs concatenated and combined to the skip's channels.

    Args:
        layers: creates the layers.
        gates: gates of the same skip.
        skip: channels of the skip.
    Source: the authors' released code (one gate in "single", two in "multi").
    """

    def __init__(self, layers: Layers, gates: Sequence[AttentionGate], skip: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(gates)
        self.combine = ConvNorm(layers, len(gates) * skip, skip)

    def forward(self, x: Tensor, g: Tensor, alpha: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `AttentionGate.forward`; alpha (B, gates, *fine) has one channel per gate."""
        given = [None] * len(self.gates) if alpha is None else alpha.split(1, dim=1)
        gated, alphas = zip(*(gate(x, g, own) for gate, own in zip(self.gates, given, strict=True)), strict=True)
        if len(gated) == 1:
            return self.combine(gated[0]), alphas[0]
        return self.combine(torch.cat(gated, dim=1)), torch.cat(alphas, dim=1)

    def open(self, bias: float) -> None:
        """As in `AttentionGate`, for each gate."""
        for gate in self.gates:
            assert isinstance(gate, AttentionGate)
            gate.open(bias)


def build_gate(layers: Layers, config: NetworkConfig, level: int, signal: int) -> AttentionGate | CombinedGates:
    """The gate of one level.

    Args:
        layers: creates the layers.
        config: settings of the network.
        level: 1 is the finest.
        signal: channels of the gating signal.
    Returns: the gate, or several of them combined.
    """
    kind = GATES[config.gate or "grid"]
    skip, stride = config.channels[level - 1], config.strides[level - 1]
    gates = [
        AttentionGate(
            layers,
            normalized=kind.normalized,
            skip=skip,
            signal=signal,
            inner=config.gate_widths[level],
            stride=stride if kind.signal == "coarse" else (1,) * len(stride),
            projection=config.gate_projection,
            double_sigmoid=config.double_sigmoid,
        )
        for _ in range(kind.maps)
    ]
    return CombinedGates(layers, gates, skip) if config.gate_projection or len(gates) > 1 else gates[0]
