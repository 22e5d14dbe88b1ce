"""The network families as settings: the default, the paper's and the popular listing. Does not need torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from attunet.config import NetworkConfig, load_settings
from attunet.errors import ConfigError
from attunet.gates import Gate

__all__ = ["default_network", "listing_network", "paper_network"]


def default_network(
    *,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    channels: Sequence[int],
    strides: Sequence[Sequence[int]],
    kernel_sizes: Sequence[Sequence[int]],
    gate: Gate | None = "grid",
) -> NetworkConfig:
    """The paper's idea with today's practice, on any topology.

    Instance norm and leaky ReLU, strided convolutions down, transposed convolutions (kernel = stride) up,
    auxiliary logits at the coarser levels; gates, open at the start, on all skips but the finest.

    Args:
        spatial_dims, in_channels, out_channels, channels, strides, kernel_sizes, gate: as in `NetworkConfig`.
    Returns: the settings.
    Raises: ConfigError when the numbers do not fit together.
    """
    return _network(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=tuple(channels),
        strides=tuple(map(tuple, strides)),
        kernel_sizes=tuple(map(tuple, kernel_sizes)),
        gate=gate,
    )


def paper_network(
    variant: Literal["single", "multi", "unet"] = "single",
    *,
    in_channels: int = 1,
    out_channels: int = 4,
    spatial_dims: int = 3,
    channels: Sequence[int] = (16, 32, 64, 128, 256),
) -> NetworkConfig:
    """Oktay et al. 2018: one or two grid gates on levels 2 to 4, or the same U-Net without them.

    Args:
        variant: one gate per skip, two, or none.
        in_channels, out_channels, spatial_dims, channels: as in `NetworkConfig`.
    Returns: the settings.
    Raises: ConfigError for an unknown variant or numbers that cannot be used.
    """
    gates: dict[str, Gate | None] = {"single": "grid", "multi": "multi", "unet": None}
    _known("variant", variant, gates)
    return _network(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        **_classic_trunk(spatial_dims, channels),
        gate=gates[variant],
        gate_channels=tuple(channels)[1:-1],
        gate_projection=True,
        upsample="linear",
        deep_supervision="fused",
    )


def listing_network(
    upsample: Literal["transpose", "nearest"] = "transpose",
    *,
    in_channels: int = 3,
    out_channels: int = 1,
    channels: Sequence[int] = (64, 128, 256, 512, 1024),
    double_sigmoid: bool = False,
) -> NetworkConfig:
    """The 2-D `AttU_Net` of many tutorials: additive gates on every skip.

    The gate of level 2 has 64 inner channels whatever the width, the others half their skip's.

    Args:
        upsample: transposed convolution, or nearest and a convolution.
        in_channels, out_channels, channels: as in `NetworkConfig`.
        double_sigmoid: True reproduces the listing's mistake, which keeps alpha in (0.5, 0.731).
    Returns: the settings.
    Raises: ConfigError for another upsampling or numbers that cannot be used.
    """
    _known("upsample", upsample, ("transpose", "nearest"))
    channels = tuple(channels)
    return _network(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=out_channels,
        **_classic_trunk(2, channels),
        gate="additive",
        gated_levels=tuple(range(1, len(channels))),
        gate_channels=tuple(
            64 if level == 2 else max(1, channels[level - 1] // 2) for level in range(1, len(channels))
        ),
        gate_bias=0.0,
        double_sigmoid=double_sigmoid,
        upsample=upsample,
        deep_supervision="none",
    )


def _classic_trunk(spatial_dims: int, channels: Sequence[int]) -> dict[str, Any]:
    """The trunk both originals share: double 3-wide convolutions, batch norm, ReLU, max-pooling by two."""
    return {
        "channels": tuple(channels),
        "strides": ((2,) * spatial_dims,) * (len(channels) - 1),
        "kernel_sizes": ((3,) * spatial_dims,) * len(channels),
        "norm": "batch",
        "activation": "relu",
        "downsample": "max",
    }


def _known(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ConfigError(f"unknown {name} {value!r}", hint=f"choose one of {', '.join(choices)}")


def _network(**settings: Any) -> NetworkConfig:
    return load_settings(NetworkConfig, settings)
