"""The Attention U-Net: one class for the paper's network, the listing, the default and the plain U-Net."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Literal, NamedTuple, ParamSpec, Self, overload

import torch
from torch import Tensor, nn

from attunet.config import NetworkConfig, load_settings
from attunet.errors import DataError
from attunet.gates import GATES, level_name
from attunet.networks import default_network, listing_network, paper_network
from attunet.nn.blocks import ConvNorm, Layers, Upsample, crop, initialize, interpolate, pad_to
from attunet.nn.foreign import misfit, read_foreign
from attunet.nn.gate import AttentionGate, CombinedGates, build_gate
from attunet.nn.stage import Stage

__all__ = ["AttentionUNet", "Detailed", "default", "in_layout", "listing", "paper"]

_FINEST = level_name(1)

Given = Mapping[str, Tensor]
P = ParamSpec("P")


class Detailed(NamedTuple):
    """All outputs of a network: `net(x, detailed=True)` for x (B, in_channels, *spatial).

    Args:
        logits: (B, out_channels, *spatial).
        auxiliary: logits of levels 2, 3, ... at their own size, finest first (deep_supervision "auxiliary").
        attention: gate coefficients in [0, 1] by gate, "level2", ...: (B, maps, *spatial / its stride).
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    attention: dict[str, Tensor]


class AttentionUNet(nn.Module):
    """A U-Net with attention gates on its skips. The arguments are the fields of `NetworkConfig`, explained there.

    Levels are numbered from 1, the finest. Any spatial size is accepted: the input is padded at the end of
    each axis by repeating its border, the outputs are cropped.

    Args:
        spatial_dims, in_channels, out_channels: dimension of the images, channels of input and logits.
        channels, strides, kernel_sizes, convolutions: the levels of encoder and decoder.
        gate, gated_levels, gate_channels, gate_projection, gate_bias, double_sigmoid: the attention gates.
        norm, activation, dropout, residual: the layers within a level.
        downsample, upsample, deep_supervision: the transitions between levels, and the heads.
    Raises: ConfigError naming the arguments that cannot be used. Warns when double_sigmoid is set.
    Source: Oktay et al. 2018 (arXiv:1804.03999), figure 1.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernel_sizes: Sequence[Sequence[int]],
        convolutions: int = 2,
        gate: str | None = "grid",
        gated_levels: Sequence[int] | None = None,
        gate_channels: Sequence[int] | None = None,
        gate_projection: bool = False,
        gate_bias: float = 3.0,
        double_sigmoid: bool = False,
        norm: str = "instance",
        activation: str = "leaky_relu",
        downsample: str = "stride",
        upsample: str = "deconv",
        deep_supervision: str = "auxiliary",
        dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        # every argument is a field of the schema (a test checks it), so none needs to be named a second time
        arguments = {name: value for name, value in locals().items() if name in NetworkConfig.model_fields}
        super().__init__()
        self.config = load_settings(NetworkConfig, arguments)
        # an attribute, not the property each time: torch.compile cannot trace through pydantic
        self.total_strides = self.config.total_strides
        self._strides = {level_name(level): stride for level, stride in enumerate(self.total_strides, start=1)}
        self._upsampled_signal = GATES[self.config.gate or "grid"].signal == "upsampled"
        layers = Layers(self.config.spatial_dims, self.config.norm, self.config.activation)
        self._build_encoder(layers)
        gates = self._build_decoder(layers)
        self._build_heads(layers)
        initialize(self, self.config.activation)
        for gate_module in gates:
            gate_module.open(self.config.gate_bias)
        if gates and self.config.double_sigmoid:
            message = "the double sigmoid keeps attention in (0.5, 0.731), so these gates cannot suppress anything"
            warnings.warn(f"{message}; double_sigmoid=False applies it once", UserWarning, stacklevel=2)

    @classmethod
    def from_config(cls, config: NetworkConfig) -> Self:
        """A new network with these settings. Raises: ConfigError."""
        return cls(**config.model_dump())

    @classmethod
    def from_foreign(cls, state_dict: Mapping[str, object], *, double_sigmoid: bool | None = None) -> AttentionUNet:
        """Our network with another project's weights, computing the same function, in evaluation mode.

        Args:
            state_dict: the weights, or a checkpoint that contains them; `module.` and similar prefixes are removed.
            double_sigmoid: whether the gates apply the sigmoid twice. None does what the original does: twice,
                with a warning, for the tutorial listing; once for all others.
        Raises: ConfigError when the weights belong to no known family, or only partly.
        """
        foreign = read_foreign(state_dict, double_sigmoid=double_sigmoid)
        network = AttentionUNet.from_config(foreign.config)
        try:
            network.load_state_dict(foreign.weights)
        except RuntimeError as error:
            raise misfit(foreign.family, " ".join(str(error).split())[:400]) from error
        return network.eval()

    @overload
    def forward(self, x: Tensor, *, detailed: Literal[False] = False, attention: Given | None = None) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, *, detailed: bool, attention: Given | None = None) -> Tensor | Detailed: ...
    def forward(self, x: Tensor, *, detailed: bool = False, attention: Given | None = None) -> Tensor | Detailed:
        """Image (B, in_channels, *spatial) to logits (B, out_channels, *spatial), or to `Detailed`.

        Args:
            x: the image.
            detailed: whether to return auxiliary logits and attention, too.
            attention: coefficients (B, maps, *level grid) that replace those of the named gates; they are returned,
                too.
        Returns: logits, or `Detailed`.
        Raises: DataError for an image of the wrong shape, for unknown gates, and for maps of the wrong shape.
        """
        size = x.shape[2:]
        y = self._pad(x)
        given = self._checked(attention or {}, x)
        skips: dict[str, Tensor] = {}
        for name, stage in self.encoder.items():
            y = skips[name] = stage(y)

        features: dict[str, Tensor] = {}
        alphas: dict[str, Tensor] = {}
        coarse = self.gating(y)  # the gating signal of the paper: the coarser feature, not yet upsampled
        for name, stage in self.decoder.items():
            skip = skips[name]
            up = self.upsamplers[name](y, skip.shape[2:])
            if name in self.gates:
                signal = up if self._upsampled_signal else coarse
                skip, alphas[name] = self.gates[name](skip, signal, given.get(name))
            y = coarse = features[name] = stage(torch.cat([skip, up], dim=1))

        logits = crop(self._logits(features), size)
        if not detailed:
            return logits
        return Detailed(logits, self._auxiliary(features, size), self._crop_attention(alphas, size))

    def recompute_stages(self) -> None:
        """Switch gradient checkpointing on: each stage stores only its input and is recomputed in the backward pass."""
        for stage in (*self.encoder.values(), *self.decoder.values()):
            assert isinstance(stage, Stage)
            stage.recomputed = True

    def _build_encoder(self, layers: Layers) -> None:
        config = self.config
        self.encoder = nn.ModuleDict({_FINEST: Stage(layers, config, config.in_channels, 1)})
        for level, stride in enumerate(config.strides, start=2):
            inputs = config.channels[level - 2]
            self.encoder[level_name(level)] = Stage(layers, config, inputs, level, stride=stride)

    def _build_decoder(self, layers: Layers) -> list[AttentionGate | CombinedGates]:
        config, gates = self.config, []
        self.upsamplers, self.gates, self.decoder = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        deepest = len(config.channels) - 1
        for level in range(deepest, 0, -1):
            name, skip, coarse = level_name(level), config.channels[level - 1], config.channels[level]
            stride, kernel = config.strides[level - 1], config.kernel_sizes[level - 1]
            up = Upsample(layers, config.upsample, coarse, skip, stride=stride, kernel=kernel)
            self.upsamplers[name] = up
            self.decoder[name] = Stage(layers, config, skip + up.out_channels, level)
            if level in config.gate_widths:
                signal = up.out_channels if self._upsampled_signal else coarse
                gates.append(build_gate(layers, config, level, signal))
                self.gates[name] = gates[-1]
        signalled = deepest in config.gate_widths and not self._upsampled_signal
        bottleneck = config.channels[-1]
        self.gating = ConvNorm(layers, bottleneck, bottleneck) if signalled else nn.Identity()
        return gates

    def _build_heads(self, layers: Layers) -> None:
        config, classes = self.config, self.config.out_channels
        headed = config.channels[: 1 if config.deep_supervision == "none" else -1]
        heads = {level_name(level): layers.conv(width, classes) for level, width in enumerate(headed, start=1)}
        self.heads = nn.ModuleDict(heads)
        if config.deep_supervision == "fused":
            self.fuse = layers.conv(len(heads) * classes, classes)

    def _pad(self, x: Tensor) -> Tensor:
        if x.ndim != self.config.spatial_dims + 2 or x.shape[1] != self.config.in_channels:
            expected = f"(B, {self.config.in_channels}, {self.config.spatial_dims} spatial axes)"
            raise DataError(f"the network expects {expected}, got shape {tuple(x.shape)}")
        strides = self.total_strides[-1]
        coarse = [-(-size // stride) for size, stride in zip(x.shape[2:], strides, strict=True)]
        if self.config.norm != "none" and all(length == 1 for length in coarse):
            # one voxel has no variance to normalize by: lengthen the axis on which it costs least
            coarse[strides.index(min(strides))] = 2
        return pad_to(x, [length * stride for length, stride in zip(coarse, strides, strict=True)])

    def _checked(self, attention: Given, x: Tensor) -> Given:
        """The given attention, after checking that it fits x."""
        for name, alpha in attention.items():
            if name not in self.gates:
                known = ", ".join(sorted(self.gates)) or "none"
                raise DataError(f"attention was given for {name!r}, the gates are: {known}", hint="use one of these")
            expected = (len(x), self.config.maps_per_gate, *self._size_at(name, x.shape[2:]))
            if tuple(alpha.shape) != expected:
                raise DataError(f"attention of {name} has shape {tuple(alpha.shape)}, expected {expected}")
        return attention

    def _logits(self, features: dict[str, Tensor]) -> Tensor:
        finest = features[_FINEST]
        if self.config.deep_supervision != "fused":
            return self.heads[_FINEST](finest)
        logits = [interpolate(head(features[name]), finest.shape[2:]) for name, head in self.heads.items()]
        return self.fuse(torch.cat(logits, dim=1))

    def _auxiliary(self, features: dict[str, Tensor], size: Sequence[int]) -> tuple[Tensor, ...]:
        if self.config.deep_supervision != "auxiliary":
            return ()
        coarser = [(name, head) for name, head in self.heads.items() if name != _FINEST]
        return tuple(crop(head(features[name]), self._size_at(name, size)) for name, head in coarser)

    def _crop_attention(self, attention: dict[str, Tensor], size: Sequence[int]) -> dict[str, Tensor]:
        return {name: crop(attention[name], self._size_at(name, size)) for name in sorted(attention)}

    def _size_at(self, name: str, size: Sequence[int]) -> tuple[int, ...]:
        return tuple(-(-length // stride) for length, stride in zip(size, self._strides[name], strict=True))


def in_layout(network: AttentionUNet, layout: torch.memory_format) -> AttentionUNet:
    """The network with its weights in a memory layout, such as torch.channels_last_3d."""
    network.to(memory_format=layout)  # type: ignore[call-overload]
    return network


def _built(settings: Callable[P, NetworkConfig]) -> Callable[P, AttentionUNet]:
    """The function that builds the network with these settings."""

    @wraps(settings)
    def build(*args: P.args, **kwargs: P.kwargs) -> AttentionUNet:
        return AttentionUNet.from_config(settings(*args, **kwargs))

    return build


default = _built(default_network)
paper = _built(paper_network)
listing = _built(listing_network)
