"""MONAI's AttentionUnet. This module imports only what a program with MONAI would need."""

from __future__ import annotations

from pathlib import Path

import torch
from monai.networks.nets import AttentionUnet
from safetensors.torch import load_file
from torch import nn

from attunet.config import Plan

__all__ = ["OWN_WEIGHTS", "load_monai", "monai_network"]

OWN_WEIGHTS = "monai.safetensors"
"""File of the weights in a folder made by `monai_model`."""


def monai_network(channels: tuple[int, ...], classes: int = 2) -> nn.Module:
    """MONAI's 3-D network with one input channel and random weights, all strides 2."""
    torch.manual_seed(0)
    strides = (2,) * (len(channels) - 1)
    network: nn.Module = AttentionUnet(3, in_channels=1, out_channels=classes, channels=channels, strides=strides)
    return network.eval()


def load_monai(root: Path, plan: Plan) -> nn.Module:
    """Load the network of a folder made by `monai_model` in torch."""
    network = monai_network(plan.network.channels, len(plan.labels))
    network.load_state_dict(load_file(root / OWN_WEIGHTS))
    return network
