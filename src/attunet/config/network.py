"""The settings of a network."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from attunet.config.settings import Settings
from attunet.gates import GATES, Gate, level_name

__all__ = ["NetworkConfig"]

MOST_LEVELS = 12
Width = Annotated[int, Field(ge=1, le=4096)]
Step = Annotated[int, Field(ge=1, le=63)]
Level = Annotated[int, Field(ge=1, le=MOST_LEVELS)]
_KINDS = ", ".join(f"{name} ({kind.summary})" for name, kind in GATES.items())


class NetworkConfig(Settings):
    """The arguments of `attunet.nn.AttentionUNet`, field by field."""

    spatial_dims: Literal[2, 3] = Field(description="2 for images and slices, 3 for volumes.")
    in_channels: int = Field(ge=1, le=4096, description="Channels of the input image.")
    out_channels: int = Field(
        ge=1, le=2**16, description="Number of classes including background; for regions, one output per region."
    )
    channels: tuple[Width, ...] = Field(
        min_length=2, max_length=MOST_LEVELS, description="Feature channels per level, finest first."
    )
    strides: tuple[tuple[Step, ...], ...] = Field(
        description="Downsampling factor per axis between level i and i+1; one entry fewer than channels."
    )
    kernel_sizes: tuple[tuple[Step, ...], ...] = Field(
        description="Kernel size per axis of each level's convolutions; as many entries as channels."
    )
    convolutions: int = Field(2, ge=1, le=16, description="Convolutions per level, in encoder and decoder.")
    gate: Gate | None = Field(
        "grid", description=f"Kind of attention gate on the skips: {_KINDS}; null for a plain U-Net."
    )
    gated_levels: tuple[Level, ...] | None = Field(
        None,
        description="Levels with a gated skip, 1 being the finest; null for all except level 1 and the bottleneck.",
    )
    gate_channels: tuple[Width, ...] | None = Field(
        None,
        description="Intermediate channels of each gate, in the order of gated_levels; null for half the skip's.",
    )
    gate_projection: bool = Field(
        False, description="Apply W (1x1 convolution and norm) to the gated skip, as in the paper."
    )
    gate_bias: float = Field(
        3.0, ge=-100, le=100, description="Initial bias of psi; with a positive value, gates start open."
    )
    double_sigmoid: bool = Field(
        False,
        description="Apply the sigmoid twice, as the popular listing does by mistake: alpha in (0.5, 0.731).",
    )
    norm: Literal["instance", "batch", "none"] = Field("instance", description="Normalization after convolutions.")
    activation: Literal["leaky_relu", "relu"] = Field("leaky_relu", description="Activation after the norm.")
    downsample: Literal["stride", "max"] = Field("stride", description="Strided first convolution, or max-pooling.")
    upsample: Literal["deconv", "linear", "nearest", "transpose"] = Field(
        "deconv",
        description="deconv: transposed convolution with kernel = stride; linear: interpolation only (paper); "
        "nearest: nearest neighbour, then convolution; transpose: kernel 4 stride 2, then convolution (listing).",
    )
    deep_supervision: Literal["auxiliary", "fused", "none"] = Field(
        "auxiliary",
        description="auxiliary: extra logits at coarser levels for the loss; fused: heads of all levels joined "
        "by a 1x1 convolution into one output (paper); none.",
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Channel dropout after each level's convolutions.")
    residual: bool = Field(
        False, description="Add each level's input to its output, through a 1x1 convolution where shapes differ."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        levels = len(self.channels)
        if len(self.strides) != levels - 1 or len(self.kernel_sizes) != levels:
            raise ValueError(
                f"{levels} channels need {levels - 1} strides and {levels} kernel_sizes, "
                f"got {len(self.strides)} and {len(self.kernel_sizes)}"
            )
        if any(len(entry) != self.spatial_dims for entry in (*self.strides, *self.kernel_sizes)):
            raise ValueError(f"every stride and kernel size needs {self.spatial_dims} numbers")
        if len(set(self._gated) & set(range(1, levels))) < len(self._gated):
            raise ValueError(f"gated_levels must differ and lie in 1..{levels - 1}, got {self.gated_levels}")
        if any(number % 2 == 0 for entry in self.kernel_sizes for number in entry):
            raise ValueError(f"kernel sizes must be odd, got {self.kernel_sizes}")
        if self.gate_channels is not None and len(self.gate_channels) != len(self._gated):
            raise ValueError(f"gate_channels needs one number for each of the gated levels {self._gated}")
        return self

    @property
    def _gated(self) -> tuple[int, ...]:
        return tuple(range(2, len(self.channels))) if self.gated_levels is None else self.gated_levels

    @property
    def total_strides(self) -> tuple[tuple[int, ...], ...]:
        """Downsampling per axis of each level against the input, finest first."""
        return tuple(
            tuple(math.prod(stride[axis] for stride in self.strides[:level]) for axis in range(self.spatial_dims))
            for level in range(len(self.channels))
        )

    @property
    def gate_names(self) -> tuple[str, ...]:
        """Name of each gate, finest first: level2, level3, ...; empty when there is no gate."""
        return tuple(level_name(level) for level in self.gate_widths)

    @property
    def maps_per_gate(self) -> int:
        """Attention maps of each gate; 0 when there is no gate."""
        return GATES[self.gate].maps if self.gate else 0

    @property
    def gate_widths(self) -> dict[int, int]:
        """Gated level to its gate's inner channels, finest first; empty when there is no gate."""
        halves = tuple(max(1, self.channels[level - 1] // 2) for level in self._gated)
        widths = zip(self._gated, self.gate_channels or halves, strict=True)
        return dict(sorted(widths)) if self.gate else {}
