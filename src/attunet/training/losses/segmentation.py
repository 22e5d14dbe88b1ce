"""The loss of a patch: overlap and entropy over the voxels and labels that are known, at every resolution."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss, FocalLoss, TverskyLoss
from torch import Tensor, nn
from torch.nn import functional

from attunet.config import Plan, TrainingConfig
from attunet.data.preprocess import IGNORED
from attunet.errors import ConfigError
from attunet.training.losses.targets import marginal, members, targets

__all__ = ["SegmentationLoss"]

_SMOOTH = 1e-5


class SegmentationLoss(nn.Module):
    """Loss of logits (B, outputs, *patch) and coarser auxiliary logits against labels (B, *patch).

    Overlap (Dice or Tversky, averaged over the outputs) plus entropy (cross-entropy or focal, averaged over the
    voxels), of softmax over labels or sigmoids of regions. Auxiliary resolutions weigh half as much as the next finer
    one. Voxels labelled IGNORED count nowhere. Of partially labelled cases, unknown labels count as background and
    unknown regions not at all.
    Raises: ConfigError for class_weights that name no output, or when the loss has no entropy to weigh.
    """

    def __init__(self, plan: Plan, config: TrainingConfig) -> None:
        super().__init__()
        _check_weights(plan, config)
        self._exclusive = not plan.regions
        self._skipped = int(self._exclusive and not config.include_background)
        self._members = members(plan)
        self._overlap = _overlap(config)
        self._entropy = _Entropy(plan, config) if config.loss != "dice" else None

    def forward(
        self, logits: Tensor, auxiliary: tuple[Tensor, ...], label: Tensor, known: Tensor | None = None
    ) -> Tensor:
        """A scalar; `known` (B, outputs) says what each case's annotator drew, everything when it is None."""
        known = None if known is None or bool(known.all()) else known
        label = label.to(torch.uint8)
        losses = [self._at_one_resolution(logits, label, known)]
        losses += [self._at_one_resolution(coarse, _shrunk(label, coarse.shape[2:]), known) for coarse in auxiliary]
        weights = [0.5**level for level in range(len(losses))]
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()
        return total / sum(weights)

    def _at_one_resolution(self, logits: Tensor, label: Tensor, known: Tensor | None) -> Tensor:
        # Contiguous, because in the network's layout the CPU's softmax would copy forth and back.
        logits = logits.to(torch.float32, memory_format=torch.contiguous_format)
        counted = (label != IGNORED)[:, None].float()
        if known is not None and self._exclusive:
            logits, label = marginal(logits, label, known)
        elif known is not None:
            counted = counted * known.view(*known.shape, *(1,) * (label.ndim - 1))
        target = targets(label, self._members)
        target = target if self._exclusive else target * counted
        logs = torch.log_softmax(logits, 1) if self._exclusive else functional.logsigmoid(logits)
        overlap = self._mean_overlap(logs.exp() * counted, target, known)
        return overlap + self._entropy(logits, logs, target, counted) if self._entropy else overlap

    def _mean_overlap(self, probabilities: Tensor, target: Tensor, known: Tensor | None) -> Tensor:
        """Over the outputs that are known: in any patch of the batch together, or in each patch."""
        losses = self._overlap(probabilities[:, self._skipped :], target[:, self._skipped :])
        if known is None:
            return losses.mean()
        told = known[:, self._skipped :]
        told = told.any(0) if self._overlap.batch else told
        return (losses.view(told.shape) * told).sum() / told.sum().clamp(min=1)


class _Entropy(nn.Module):
    """Weighted mean over the voxels (labels), or over voxels and regions, of cross-entropy or focal loss."""

    def __init__(self, plan: Plan, config: TrainingConfig) -> None:
        super().__init__()
        self._exclusive = not plan.regions
        weights = torch.tensor([config.class_weights.get(name, 1.0) for name in plan.outputs])
        shape = (-1, *(1,) * plan.network.spatial_dims)
        self._weights = nn.Buffer(weights.view(shape), persistent=False) if config.class_weights else None
        focal = FocalLoss(gamma=config.focal_gamma, use_softmax=self._exclusive, reduction="none")
        self._focal = focal if config.loss == "dice_focal" else None

    def forward(self, logits: Tensor, logs: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        """A scalar, zero when nothing is counted; `logs` of the probabilities, all (B, outputs, *patch)."""
        # Of a softmax only the term of the true class is not zero, so that a voxel weighs as its class does.
        weights = target if self._exclusive else counted.expand_as(logits)
        weights = weights if self._weights is None else weights * self._weights
        total = (self._losses(logits, logs, target) * weights).sum()
        whole = weights.sum()
        return total / torch.where(whole > 0, whole, 1.0)

    def _losses(self, logits: Tensor, logs: Tensor, target: Tensor) -> Tensor:
        if self._focal is not None:
            return self._focal(logits, target)
        return -logs if self._exclusive else logits * (1 - target) - logs


def _overlap(config: TrainingConfig) -> nn.Module:
    settings = {"batch": config.batch_dice, "reduction": "none", "smooth_nr": _SMOOTH, "smooth_dr": _SMOOTH}
    if config.loss == "tversky_ce":
        return TverskyLoss(alpha=1 - config.tversky_beta, beta=config.tversky_beta, **settings)
    return DiceLoss(**settings)


def _check_weights(plan: Plan, config: TrainingConfig) -> None:
    if config.class_weights and config.loss == "dice":
        hint = "choose the loss dice_ce, or leave them out"
        raise ConfigError("class_weights have no say in the loss dice", hint=hint)
    if unknown := config.class_weights.keys() - set(plan.outputs):
        raise ConfigError(
            f"class_weights names {', '.join(sorted(unknown))}, which the plan does not",
            hint=f"its outputs are {', '.join(plan.outputs)}",
        )


def _shrunk(label: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(label[:, None], size=size, mode="nearest")[:, 0]
