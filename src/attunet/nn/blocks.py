"""The layers that the networks are made of, in two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConvNorm", "InstanceNorm", "Layers", "Upsample", "crop", "initialize", "interpolate", "pad_to"]

LEAK = 0.01

_CONV: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_DECONV: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_DROPOUT: dict[int, type[nn.Module]] = {2: nn.Dropout2d, 3: nn.Dropout3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Layers:
    """Creates layers with one network's dimension, norm and activation.

    Args:
        spatial_dims: 2 or 3.
        norm: "instance", "batch" or "none".
        activation: "leaky_relu" or "relu".
    """

    spatial_dims: int
    norm: str
    activation: str

    def conv(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int] = (),
        stride: Sequence[int] = (),
        *,
        bias: bool = True,
    ) -> nn.Module:
        """A convolution that keeps the size, or divides it by its stride.

        Args:
            inputs, outputs: channels.
            kernel: size per axis; 1 by default.
            stride: per axis; 1 by default.
            bias: whether it has a bias.
        Returns: the layer.
        """
        kernel, stride = self._all_axes(kernel), self._all_axes(stride)
        padding = tuple(k // 2 for k in kernel)
        return _CONV[self.spatial_dims](inputs, outputs, kernel, stride, padding=padding, bias=bias)

    def patch_conv(self, inputs: int, outputs: int, stride: Sequence[int]) -> nn.Module:
        """A convolution without bias whose kernel is its stride.

        Args:
            inputs, outputs: channels.
            stride: per axis.
        Returns: the layer.
        """
        return _CONV[self.spatial_dims](inputs, outputs, tuple(stride), tuple(stride), bias=False)

    def deconv(self, inputs: int, outputs: int, stride: Sequence[int], overlap: int = 0) -> nn.Module:
        """A transposed convolution that multiplies the size by the stride.

        Args:
            inputs, outputs: channels.
            stride: per axis.
            overlap: by how much the kernel is wider than the stride on each side.
        Returns: the layer.
        """
        kernel = tuple(s + 2 * overlap for s in stride)
        return _DECONV[self.spatial_dims](inputs, outputs, kernel, tuple(stride), padding=overlap)

    def normalize(self, channels: int) -> nn.Module:
        """The network's norm, with learned scale and shift."""
        if self.norm == "batch":
            return _BATCH_NORM[self.spatial_dims](channels)
        return InstanceNorm(channels) if self.norm == "instance" else nn.Identity()

    def activate(self) -> nn.Module:
        """The network's activation."""
        return nn.LeakyReLU(LEAK, inplace=True) if self.activation == "leaky_relu" else nn.ReLU(inplace=True)

    def max_pool(self, stride: Sequence[int]) -> nn.Module:
        """Max-pooling over windows of stride."""
        return _MAX_POOL[self.spatial_dims](tuple(stride))

    def dropout(self, probability: float) -> nn.Module:
        """Dropout of whole channels."""
        return _DROPOUT[self.spatial_dims](probability)

    def _all_axes(self, values: Sequence[int]) -> tuple[int, ...]:
        return tuple(values) or (1,) * self.spatial_dims


class ConvNorm(nn.Sequential):
    """Convolution, norm and activation, named conv, norm, activation.

    Args:
        layers: creates the layers.
        inputs, outputs: channels.
        kernel, stride: per axis; 1 by default.
        active: whether an activation follows.
    """

    def __init__(
        self,
        layers: Layers,
        inputs: int,
        outputs: int,
        kernel: Sequence[int] = (),
        stride: Sequence[int] = (),
        *,
        active: bool = True,
    ) -> None:
        super().__init__()
        # instance norm would cancel a bias; batch norm would too, but both original networks have it
        self.conv = layers.conv(inputs, outputs, kernel, stride, bias=layers.norm != "instance")
        if layers.norm != "none":
            self.norm = layers.normalize(outputs)
        if active:
            self.activation = layers.activate()


class InstanceNorm(nn.Module):
    """Instance norm with scale and shift: torch's function, but twice as fast in CPU training.

    Torch's own norm loses the channels_last layout, so every convolution after it first copies its input back. Batch
    norm of one sample is the same function and keeps the layout. Exported graphs contain the plain operation, for which
    inference engines are optimized.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to the same shape."""
        exporting = torch.jit.is_tracing() or torch.compiler.is_exporting()  # type: ignore[attr-defined]
        if exporting or x.device.type != "cpu":
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        samples = [F.batch_norm(each, None, None, self.weight, self.bias, True, 0.0, self.eps) for each in x.split(1)]
        return samples[0] if len(samples) == 1 else torch.cat(samples)


class Upsample(nn.Module):
    """Upsampling from a coarser level's grid to its skip's grid.

    Its attribute `out_channels` is the number of output channels: the input's for "linear", else the skip's.

    Args:
        layers: creates the layers.
        kind: as in `NetworkConfig.upsample`.
        inputs, skip: channels of the input and of the skip.
        stride: from the skip's grid to the input's.
        kernel: size per axis of the convolution after "nearest" and "transpose".
    """

    def __init__(
        self,
        layers: Layers,
        kind: str,
        inputs: int,
        skip: int,
        *,
        stride: Sequence[int],
        kernel: Sequence[int],
    ) -> None:
        super().__init__()
        self.mode = "nearest" if kind == "nearest" else "linear"
        self.out_channels = inputs if kind == "linear" else skip
        self.expand: nn.Module | None = None
        if kind == "deconv":
            self.expand = layers.deconv(inputs, skip, stride)
        elif kind == "transpose":
            self.expand = layers.deconv(inputs, inputs, stride, overlap=1)
        refined = kind in ("nearest", "transpose")
        self.refine = ConvNorm(layers, inputs, skip, kernel) if refined else nn.Identity()

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """(B, C, *coarse) to (B, out_channels, *size)."""
        return self.refine(interpolate(x, size, self.mode) if self.expand is None else self.expand(x))


def interpolate(x: Tensor, size: Sequence[int], mode: str = "linear") -> Tensor:
    """Interpolate an image to another grid, without aligned corners.

    Args:
        x: (B, C, *spatial).
        size: the grid to interpolate to.
        mode: "linear" or "nearest".
    Returns: (B, C, *size); x itself when it has that size.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if mode == "nearest":
        return F.interpolate(x, size=tuple(size), mode=mode)
    return F.interpolate(x, size=tuple(size), mode=_LINEAR[x.ndim - 2], align_corners=False)


def crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` voxels of each spatial axis of (B, C, *spatial); x itself when it has that size."""
    for axis, length in enumerate(size, start=2):
        if x.shape[axis] != length:
            x = x.narrow(axis, 0, length)
    return x


def pad_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Pad (B, C, *spatial) to `size` at the end of each axis by repeating its border; `crop` is the inverse."""
    padding = [end for axis in reversed(range(len(size))) for end in (0, size[axis] - x.shape[axis + 2])]
    return F.pad(x, padding, mode="replicate") if any(padding) else x


def initialize(network: nn.Module, activation: str) -> None:
    """Initialize all convolutions Kaiming-normal for the activation's slope, with zero biases."""
    slope = LEAK if activation == "leaky_relu" else 0.0
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
