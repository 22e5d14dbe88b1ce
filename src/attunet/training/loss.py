"""Dice and cross-entropy over the voxels whose label is known, at every supervised resolution."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional

from attunet.config import TrainingConfig
from attunet.data.preprocess import IGNORED

__all__ = ["SegmentationLoss"]


class SegmentationLoss(nn.Module):
    """Loss of logits (B, classes, *patch) and coarser auxiliary logits against labels (B, *patch).

    Auxiliary resolutions weigh half as much as the next finer one. Voxels labelled IGNORED count nowhere.
    """

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self._dice = DiceLoss(include_background=config.include_background, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)
        self._cross_entropy = config.loss == "dice_ce"

    def forward(self, logits: Tensor, auxiliary: tuple[Tensor, ...], label: Tensor) -> Tensor:
        """A scalar."""
        losses = [self._at_one_resolution(logits, label)]
        losses += [self._at_one_resolution(coarse, _shrunk(label, coarse.shape[2:])) for coarse in auxiliary]
        weights = [0.5**level for level in range(len(losses))]
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()
        return total / sum(weights)

    def _at_one_resolution(self, logits: Tensor, label: Tensor) -> Tensor:
        logits = logits.float()
        known = label != IGNORED
        classes = torch.where(known, label, 0)
        mask = known[:, None].to(logits.dtype)
        target = functional.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        dice = self._dice(torch.softmax(logits, 1) * mask, target * mask)
        if not self._cross_entropy:
            return dice
        entropy = functional.cross_entropy(logits, classes, reduction="none")
        return dice + (entropy * known).sum() / known.sum().clamp(min=1)


def _shrunk(label: Tensor, size: torch.Size) -> Tensor:
    return functional.interpolate(label[:, None].float(), size=size, mode="nearest")[:, 0].long()
