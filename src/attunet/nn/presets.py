"""The network families, built: `default`, `paper` and `listing`. Their settings are in `attunet.networks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attunet.config import Gate
from attunet.networks import default_network, listing_network, paper_network
from attunet.nn.network import AttentionUNet

__all__ = ["default", "listing", "paper"]


def default(
    *,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    channels: Sequence[int],
    strides: Sequence[Sequence[int]],
    kernel_sizes: Sequence[Sequence[int]],
    gate: Gate | None = "grid",
) -> AttentionUNet:
    """The default network on this topology. Raises: ConfigError."""
    config = default_network(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=channels,
        strides=strides,
        kernel_sizes=kernel_sizes,
        gate=gate,
    )
    return AttentionUNet.from_config(config)


def paper(
    variant: Literal["single", "multi", "unet"] = "single",
    *,
    in_channels: int = 1,
    out_channels: int = 4,
    spatial_dims: int = 3,
    channels: Sequence[int] = (16, 32, 64, 128, 256),
) -> AttentionUNet:
    """The network of Oktay et al. 2018, one gate per level, two or none ("unet"). Raises: ConfigError."""
    config = paper_network(
        variant,
        in_channels=in_channels,
        out_channels=out_channels,
        spatial_dims=spatial_dims,
        channels=channels,
    )
    return AttentionUNet.from_config(config)


def listing(
    upsample: Literal["transpose", "nearest"] = "transpose",
    *,
    in_channels: int = 3,
    out_channels: int = 1,
    channels: Sequence[int] = (64, 128, 256, 512, 1024),
    double_sigmoid: bool = False,
) -> AttentionUNet:
    """The popular 2-D `AttU_Net`; warns when its double sigmoid is asked for. Raises: ConfigError."""
    config = listing_network(
        upsample,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=channels,
        double_sigmoid=double_sigmoid,
    )
    return AttentionUNet.from_config(config)
