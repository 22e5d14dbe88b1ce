"""Losses of the gates: supervision opens them on the labels, sparsity closes them elsewhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from attunet.config import Plan, TrainingConfig
from attunet.data.preprocess import IGNORED
from attunet.errors import ConfigError
from attunet.training.losses.targets import output_classes

__all__ = ["AttentionLoss", "attention_loss", "dilate", "dilation_in_voxels"]

_MARGIN = 1e-3
"""Coefficients are clamped to [0.001, 0.999] for the logarithm: 16 bits round many of them to 0 and 1."""


class AttentionLoss(nn.Module):
    """attention_supervision x cross-entropy of alpha with the dilated labels + attention_sparsity x mean of alpha.

    The target of every gate, on its own grid, is the foreground of all labels, dilated by attention_dilation mm (whole
    voxels along each axis, rounded down): 1 where a voxel contains any of it and 0 elsewhere. Both terms are means over
    the voxels, then over the gates. Voxels labelled IGNORED do not count. In a partially annotated case, supervision
    counts only on its own labels, because other labels may be anywhere else.
    Raises: ConfigError when the plan's network has no gates.
    """

    def __init__(self, plan: Plan, config: TrainingConfig) -> None:
        super().__init__()
        if not plan.network.gate_widths:
            raise ConfigError(
                "attention_supervision and attention_sparsity were set for a network without gates",
                hint="leave them at 0, or plan a network with gates",
            )
        self._supervision, self._sparsity = config.attention_supervision, config.attention_sparsity
        self._reach = dilation_in_voxels(plan, config.attention_dilation)
        dims = plan.network.spatial_dims
        self._strides = {name: stride[:dims] for name, stride in plan.level_strides.items()}
        self._classes = nn.Buffer(_class_table(plan), persistent=False)

    def forward(self, attention: dict[str, Tensor], label: Tensor, annotated: Tensor | None = None) -> Tensor:
        """The loss of a batch, in float32 even under autocast.

        Args:
            attention: alpha (B, maps, *level grid) by gate.
            label: (B, *patch), class indices or IGNORED.
            annotated: bool (B, outputs), which outputs were annotated in each case; None if all were.
        Returns: a scalar.
        """
        with torch.autocast(label.device.type, enabled=False):
            annotated = None if annotated is None or bool(annotated.all()) else annotated
            counted = (label != IGNORED)[:, None]
            dilated = dilate(self._foreground(label, annotated)[:, None].float(), self._reach)
            supervised = counted if annotated is None else counted & (_complete(annotated, label.ndim) | (dilated > 0))
            parts = [
                self._of_gate(alpha.float(), dilated, supervised.float(), counted.float(), self._strides[name])
                for name, alpha in attention.items()
            ]
            return torch.stack(parts).mean()

    def _of_gate(
        self, alpha: Tensor, dilated: Tensor, supervised: Tensor, counted: Tensor, stride: tuple[int, ...]
    ) -> Tensor:
        """The loss of a gate: a voxel should open for any foreground in it, and counts as far as it is annotated."""
        total = alpha.new_zeros(())
        if self._supervision:
            target = _pooled("max", dilated * supervised, stride).expand_as(alpha)
            inside = _MARGIN + (1 - 2 * _MARGIN) * alpha
            losses = functional.binary_cross_entropy(inside, target, reduction="none")
            total = total + self._supervision * _mean(losses, _pooled("avg", supervised, stride))
        if self._sparsity:
            total = total + self._sparsity * _mean(alpha, _pooled("avg", counted, stride))
        return total

    def _foreground(self, label: Tensor, annotated: Tensor | None) -> Tensor:
        """The voxels (B, *patch) with a label that was annotated in their case."""
        if annotated is None:
            return (label > 0) & (label != IGNORED)
        foreground = annotated.float() @ self._classes
        return foreground.gather(1, label.flatten(1).long()).view_as(label) > 0


def dilate(mask: Tensor, reach: tuple[int, ...]) -> Tensor:
    """Dilate the mask (B, 1, *patch) with a box of this many voxels to each side, one axis after the other."""
    for axis, voxels in enumerate(reach):
        if voxels:
            kernel = [2 * voxels + 1 if other == axis else 1 for other in range(len(reach))]
            padding = [voxels if other == axis else 0 for other in range(len(reach))]
            pool = functional.max_pool2d if mask.ndim == 4 else functional.max_pool3d
            mask = pool(mask, kernel, 1, padding)
    return mask


def dilation_in_voxels(plan: Plan, millimetres: float) -> tuple[int, ...]:
    """The distance in voxels along each axis of a patch, rounded down."""
    spacing = plan.preprocessing.spacing[: plan.network.spatial_dims]
    return tuple(math.floor(millimetres / size + 1e-6) for size in spacing)


def attention_loss(plan: Plan, config: TrainingConfig) -> AttentionLoss | None:
    """The loss of the gates that a recipe requests; None when it requests none.

    Raises: ConfigError as AttentionLoss.
    """
    requested = config.attention_supervision or config.attention_sparsity
    return AttentionLoss(plan, config) if requested else None


def _pooled(kind: str, mask: Tensor, stride: tuple[int, ...]) -> Tensor:
    """The largest or mean value in each voxel of a coarser grid; the last voxel may extend beyond the patch."""
    pool = getattr(functional, f"{kind}_pool{mask.ndim - 2}d")
    pooled: Tensor = pool(mask, stride, stride, ceil_mode=True)
    return pooled


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the voxels, and mean over the maps; 0 if all weights are 0."""
    whole = weights.sum() * values.shape[1]
    return (values * weights).sum() / torch.where(whole > 0, whole, 1.0)


def _complete(annotated: Tensor, ndim: int) -> Tensor:
    """The cases (B, 1, 1, ...) with every output annotated."""
    return annotated.all(1).view(-1, *(1,) * ndim)


def _class_table(plan: Plan) -> Tensor:
    """(outputs, 256 or more): whether a stored label is foreground of an output."""
    table = torch.zeros(len(plan.outputs), max(IGNORED + 1, len(plan.file_classes)))
    for row, classes in zip(table, output_classes(plan), strict=True):
        row[list(classes)] = 1.0
    table[:, 0] = 0.0
    return table
