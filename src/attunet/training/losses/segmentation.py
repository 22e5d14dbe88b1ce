"""Segmentation losses: overlap and entropy over the annotated voxels and labels, at every resolution.

`LOSSES` is the table of losses that a recipe can name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.losses import DiceLoss, FocalLoss, TverskyLoss
from torch import Tensor, nn
from torch.nn import functional

from attunet.config import Plan, TrainingConfig
from attunet.data.preprocess import IGNORED
from attunet.errors import ConfigError
from attunet.training.losses.targets import class_targets, marginal, output_classes

__all__ = ["LOSSES", "LossTerms", "SegmentationLoss"]

VoxelLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps logits, logarithms of their probabilities, and targets, all (B, outputs, *patch), to a loss per voxel."""

_SMOOTH = 1e-5


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The terms of a loss.

    Args:
        overlap: creates the overlap term, which returns a loss for each output, per patch or for the batch.
        entropy: creates the loss per voxel; its first argument is whether the outputs are exclusive labels. None for a
            loss without this term.
    """

    overlap: Callable[[TrainingConfig], nn.Module]
    entropy: Callable[[bool, TrainingConfig], VoxelLoss] | None


class SegmentationLoss(nn.Module):
    """Loss of logits (B, outputs, *patch) and coarser auxiliary logits against labels (B, *patch).

    Overlap (averaged over the outputs) plus entropy (averaged over the voxels), of softmax over labels or sigmoids of
    regions. Each auxiliary resolution weighs half as much as the next finer one. Voxels labelled IGNORED do not count.
    In partially annotated cases, labels that were not annotated count as background, and such regions do not count.
    Raises: ConfigError for class_weights of unknown outputs, or for a loss without an entropy term to weight.
    """

    def __init__(self, plan: Plan, config: TrainingConfig) -> None:
        super().__init__()
        _check_weights(plan, config)
        terms = LOSSES[config.loss]
        self._exclusive = not plan.regions
        self._skipped = int(self._exclusive and not config.include_background)
        self._classes = output_classes(plan)
        self._stored = torch.uint8 if len(plan.file_classes) <= IGNORED + 1 else torch.int16
        self._overlap = terms.overlap(config)
        self._entropy = _Entropy(plan, config, terms.entropy(self._exclusive, config)) if terms.entropy else None

    def forward(
        self, logits: Tensor, auxiliary: tuple[Tensor, ...], label: Tensor, annotated: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            logits: (B, outputs, *patch).
            auxiliary: logits at coarser resolutions.
            label: (B, *patch), class indices or IGNORED.
            annotated: bool (B, outputs), which outputs were annotated in each case; None when all were.
        Returns: a scalar.
        """
        annotated = None if annotated is None or bool(annotated.all()) else annotated
        label = label.to(self._stored)
        losses = [self.at_one_resolution(logits, label, annotated)]
        losses += [self.at_one_resolution(coarse, _shrunk(label, coarse.shape[2:]), annotated) for coarse in auxiliary]
        weights = [0.5**level for level in range(len(losses))]
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()
        return total / sum(weights)

    def at_one_resolution(self, logits: Tensor, label: Tensor, annotated: Tensor | None) -> Tensor:
        """The loss of logits at the label's resolution.

        Args:
            logits: (B, outputs, *patch).
            label: uint8 or int16 (B, *patch), class indices or IGNORED.
            annotated: as in `forward`.
        Returns: a scalar.
        """
        # Contiguous, because softmax on the CPU would copy back and forth in the network's layout.
        logits = logits.to(torch.float32, memory_format=torch.contiguous_format)
        counted = (label != IGNORED)[:, None].float()
        if annotated is not None and self._exclusive:
            logits, label = marginal(logits, label, annotated)
        elif annotated is not None:
            counted = counted * annotated.view(*annotated.shape, *(1,) * (label.ndim - 1))
        target = class_targets(label, self._classes)
        target = target if self._exclusive else target * counted
        logs = torch.log_softmax(logits, 1) if self._exclusive else functional.logsigmoid(logits)
        overlap = self._mean_overlap(logs.exp() * counted, target, annotated)
        return overlap + self._entropy(logits, logs, target, counted) if self._entropy else overlap

    def _mean_overlap(self, probabilities: Tensor, target: Tensor, annotated: Tensor | None) -> Tensor:
        """Mean overlap over the annotated outputs: those annotated in any patch of the batch, or in each patch."""
        losses = self._overlap(probabilities[:, self._skipped :], target[:, self._skipped :])
        if annotated is None:
            return losses.mean()
        counted = annotated[:, self._skipped :]
        counted = counted.any(0) if self._overlap.batch else counted
        return (losses.view(counted.shape) * counted).sum() / counted.sum().clamp(min=1)


class _Entropy(nn.Module):
    """Weighted mean of the loss per voxel over the voxels (labels), or over voxels and regions."""

    def __init__(self, plan: Plan, config: TrainingConfig, loss: VoxelLoss) -> None:
        super().__init__()
        self._exclusive = not plan.regions
        self._loss = loss
        weights = torch.tensor([config.class_weights.get(name, 1.0) for name in plan.outputs])
        shape = (-1, *(1,) * plan.network.spatial_dims)
        self._weights = nn.Buffer(weights.view(shape), persistent=False) if config.class_weights else None

    def forward(self, logits: Tensor, logs: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        """The loss as a scalar, zero when no voxel counts; `logs` are log-probabilities; all (B, outputs, *patch)."""
        # In a softmax only the term of the true class is not zero, so a voxel has the weight of its class.
        weights = target if self._exclusive else counted.expand_as(logits)
        weights = weights if self._weights is None else weights * self._weights
        total = (self._loss(logits, logs, target) * weights).sum()
        whole = weights.sum()
        return total / torch.where(whole > 0, whole, 1.0)


def _dice(config: TrainingConfig) -> nn.Module:
    return DiceLoss(batch=config.batch_dice, reduction="none", smooth_nr=_SMOOTH, smooth_dr=_SMOOTH)


def _tversky(config: TrainingConfig) -> nn.Module:
    settings = {"batch": config.batch_dice, "reduction": "none", "smooth_nr": _SMOOTH, "smooth_dr": _SMOOTH}
    return TverskyLoss(alpha=1 - config.tversky_beta, beta=config.tversky_beta, **settings)


def _cross_entropy(exclusive: bool, _config: TrainingConfig) -> VoxelLoss:
    if exclusive:
        return lambda _logits, logs, _target: -logs
    return lambda logits, logs, target: logits * (1 - target) - logs


def _focal(exclusive: bool, config: TrainingConfig) -> VoxelLoss:
    focal = FocalLoss(gamma=config.focal_gamma, use_softmax=exclusive, reduction="none")
    return lambda logits, _logs, target: focal(logits, target)


LOSSES: dict[str, LossTerms] = {
    "dice": LossTerms(overlap=_dice, entropy=None),
    "dice_ce": LossTerms(overlap=_dice, entropy=_cross_entropy),
    "dice_focal": LossTerms(overlap=_dice, entropy=_focal),
    "tversky_ce": LossTerms(overlap=_tversky, entropy=_cross_entropy),
}
"""The losses by their name in a recipe."""


def _check_weights(plan: Plan, config: TrainingConfig) -> None:
    if config.class_weights and LOSSES[config.loss].entropy is None:
        hint = "choose the loss dice_ce, or leave them out"
        raise ConfigError(f"class_weights have no effect on the loss {config.loss}", hint=hint)
    if unknown := config.class_weights.keys() - set(plan.outputs):
        raise ConfigError(
            f"class_weights names {', '.join(sorted(unknown))}, which are not outputs of the plan",
            hint=f"its outputs are {', '.join(plan.outputs)}",
        )
    if not any(config.class_weights.get(name, 1.0) for name in plan.outputs):
        raise ConfigError(
            "class_weights are 0 for every output, so that the cross-entropy teaches nothing",
            hint="give one output at least a positive weight, or choose the loss dice",
        )


def _shrunk(label: Tensor, size: torch.Size) -> Tensor:
    known = label if label.dtype == torch.uint8 else label.float()  # torch resizes no int16
    return functional.interpolate(known[:, None], size=size, mode="nearest")[:, 0].to(label.dtype)
