"""The LightningModule: one training step, the optimizer, and the averaged weights that are validated and saved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from attunet.config import Plan, TrainingConfig
from attunet.errors import TrainingError
from attunet.nn import AttentionUNet, Detailed, in_layout
from attunet.training.losses.attention import attention_loss
from attunet.training.losses.segmentation import SegmentationLoss
from attunet.training.patches.augmentation import Patch

__all__ = ["OPTIMIZERS", "DivergenceError", "TrainingModule"]

Parameters = list[nn.Parameter]
_FADING = 10
"""The averaged weights follow the last tenth of the steps, about, until `ema_decay` is reached."""


class DivergenceError(TrainingError):
    """The gradient is not finite."""


class TrainingModule(pl.LightningModule):
    """Trains a network; `averaged` follows its weights as an exponential moving average.

    `attention` has the coefficients (B, maps, *level grid) of the last step by gate.

    Args:
        plan: the plan.
        config: the recipe.
        network: the network to train; None creates a new one from the plan.
    """

    def __init__(self, plan: Plan, config: TrainingConfig, network: AttentionUNet | None = None) -> None:
        super().__init__()
        self.config = config
        network = network or AttentionUNet.from_config(plan.network)
        layout = torch.channels_last if plan.network.spatial_dims == 2 else torch.channels_last_3d
        self.network = in_layout(network, layout)
        self.averaged = AveragedModel(
            self.network, multi_avg_fn=partial(_average, config.ema_decay), use_buffers=True
        ).requires_grad_(False)
        self._layout = layout
        self._parts = plan.accumulation
        if plan.checkpointing:
            self.network.recompute_stages()
        if config.compile:
            self.network.compile(dynamic=False)  # all batches have one shape
        self._loss = SegmentationLoss(plan, config)
        self._gates_loss = attention_loss(plan, config)
        self.attention: dict[str, Tensor] = {}

    @property
    def averaged_network(self) -> AttentionUNet:
        """The network with averaged (EMA) weights, which is validated and saved."""
        return cast(AttentionUNet, self.averaged.module)

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images in memory that the network is fastest with."""
        return self._layout

    def segmentation_loss(self, result: Detailed, label: Tensor, annotated: Tensor | None = None) -> Tensor:
        """The loss of logits and auxiliary logits, without that of the gates.

        Args:
            result: of the network.
            label: (B, *patch), class indices or IGNORED.
            annotated: bool (B, outputs), which outputs were annotated in each case; None when all were.
        Returns: a scalar.
        """
        return self._loss(result.logits, result.auxiliary, label, annotated)

    def training_step(self, batch: Patch, _index: int) -> Tensor:
        """The loss of a batch of patches, or of a part of it."""
        image = batch.image.to(memory_format=self._layout)
        result = self.network(image, detailed=True)
        loss = self.segmentation_loss(result, batch.label, batch.annotated)
        if self._gates_loss is not None:
            loss = loss + self._gates_loss(result.attention, batch.label, batch.annotated)
        self.attention = {name: alpha.detach() for name, alpha in result.attention.items()}
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(image), sync_dist=True)
        return loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout by the step, as for patches, so that resuming changes nothing."""
        if batch_idx % self._parts == 0:
            torch.manual_seed(self.config.seed + self.global_step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the averaged weights after all parts of a batch."""
        if (batch_idx + 1) % self._parts == 0:
            self.averaged.update_parameters(self.network)

    def configure_gradient_clipping(self, optimizer: Optimizer, *_args: Any, **_kwargs: Any) -> None:
        """Clip by norm, because lightning refuses to clip for fused optimizers; bf16 and fp32 need no loss scaling."""
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        # Checked before the optimizer's step, so that every checkpoint has finite weights; on the gradient, because
        # all processes share it, while the loss of one of them may be finite.
        if not torch.isfinite(norm):
            raise DivergenceError(f"the training diverged at step {self.global_step}: its gradient is not a number")

    def configure_optimizers(self) -> Optimizer:
        """The recipe's optimizer; the schedule sets its learning rate at each step."""
        parameters = [weight for weight in self.network.parameters() if weight.requires_grad]
        return OPTIMIZERS[self.config.optimizer](parameters, self.config)


def _average(decay: float, averaged: Any, current: Any, steps: Tensor) -> None:
    """Move the averaged weights towards the current ones, faster in the first steps, so that the first weights fade.

    At a constant decay of 0.99, a third of the average after 111 steps would still be the weights of the first step.

    Source: `ExponentialMovingAverage(num_updates=...)` of TensorFlow.
    """
    done = int(steps)
    get_ema_multi_avg_fn(min(decay, (1 + done) / (_FADING + done)))(averaged, current, steps)


def _adam(parameters: Parameters, config: TrainingConfig) -> Optimizer:
    return Adam(parameters, config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _adamw(parameters: Parameters, config: TrainingConfig) -> Optimizer:
    return AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _sgd(parameters: Parameters, config: TrainingConfig) -> Optimizer:
    return SGD(
        parameters,
        config.learning_rate,
        momentum=config.momentum,
        nesterov=True,
        weight_decay=config.weight_decay,
        fused=True,
    )


OPTIMIZERS: dict[str, Callable[[Parameters, TrainingConfig], Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
}
"""The optimizers by their name in a recipe."""
