"""One level of the encoder or decoder, with gradient checkpointing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from attunet.config import NetworkConfig
from attunet.nn.blocks import ConvNorm, Layers

__all__ = ["Stage"]


class Stage(nn.Module):
    """One level of encoder or decoder: pooling, convolutions and their shortcut, dropout.

    Its attribute `recomputed` switches gradient checkpointing on: training then stores only the input and recomputes
    the stage for its gradient, with the same results.

    Args:
        layers: creates the layers.
        config: settings of the network.
        inputs: channels of the input.
        level: 1 is the finest.
        stride: downsampling per axis before or in the first convolution; none by default.
    """

    def __init__(
        self, layers: Layers, config: NetworkConfig, inputs: int, level: int, *, stride: Sequence[int] = ()
    ) -> None:
        super().__init__()
        outputs, kernel = config.channels[level - 1], config.kernel_sizes[level - 1]
        pooled = bool(stride) and config.downsample == "max"
        first = () if pooled else stride
        self.pool = layers.max_pool(stride) if pooled else nn.Identity()
        self.convs = nn.Sequential(
            ConvNorm(layers, inputs, outputs, kernel, first),
            *(ConvNorm(layers, outputs, outputs, kernel) for _ in range(config.convolutions - 1)),
        )
        self.dropout = layers.dropout(config.dropout) if config.dropout else nn.Identity()
        same_shape = inputs == outputs and not first
        straight = nn.Identity() if same_shape else ConvNorm(layers, inputs, outputs, (), first, active=False)
        self.shortcut = straight if config.residual else None
        self.recomputed = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, *spatial) to (B, outputs, *spatial / stride)."""
        if not (self.recomputed and self.training and torch.is_grad_enabled()):
            return self._compute(x)
        result = checkpoint(self._compute, x, use_reentrant=False, context_fn=self._passes)
        assert isinstance(result, Tensor)
        return result

    def _compute(self, x: Tensor) -> Tensor:
        pooled = self.pool(x)
        y = self.convs(pooled)
        return self.dropout(y if self.shortcut is None else y + self.shortcut(pooled))

    def _passes(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self._seen_before()

    @contextmanager
    def _seen_before(self) -> Iterator[None]:
        """Keep batch norms from counting a batch twice in their running statistics."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        before = [(norm.momentum, deepcopy(norm.num_batches_tracked)) for norm in norms]
        try:
            for norm in norms:
                norm.momentum = 0.0
            yield
        finally:
            for norm, (momentum, batches) in zip(norms, before, strict=True):
                norm.momentum = momentum
                norm.num_batches_tracked = batches
