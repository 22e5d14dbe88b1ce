"""The networks (torch only): blocks, gates, the Attention U-Net, its presets, and the weights of other projects."""

from attunet.nn.network import AttentionUNet, Detailed, default, in_layout, listing, paper
from attunet.nn.weights import load_weights, read_weights, save_weights

__all__ = [
    "AttentionUNet",
    "Detailed",
    "default",
    "in_layout",
    "listing",
    "load_weights",
    "paper",
    "read_weights",
    "save_weights",
]
