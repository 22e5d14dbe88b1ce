"""Targets of a network's outputs, for fully and for partially annotated cases.

Labels are stored as indices into the plan's `file_classes`, or IGNORED.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional

from attunet.config import Plan
from attunet.data.preprocess import IGNORED

__all__ = ["annotated_classes", "annotated_outputs", "class_targets", "marginal", "output_classes"]

_IMPOSSIBLE = -1e4
"""A logit whose probability is 0 in float32, and whose product with 0 is still a number."""


def output_classes(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """For each output, the indices into `plan.file_classes` that belong to it."""
    united = plan.regions or {name: (value,) for name, value in plan.labels.items()}
    classes = {value: index for index, values in enumerate(plan.file_classes) for value in values}
    return tuple(tuple(dict.fromkeys(classes[value] for value in values)) for values in united.values())


def annotated_outputs(plan: Plan, annotated: Collection[str] | None) -> tuple[bool, ...]:
    """For each output, whether it was annotated in a case; `annotated` as in `Case`. The background always is."""
    background = None if plan.regions else plan.outputs[0]
    return tuple(annotated is None or name == background or name in annotated for name in plan.outputs)


def annotated_classes(plan: Plan, annotated: Collection[str] | None) -> frozenset[int]:
    """The indices into `plan.file_classes` that belong to an annotated output."""
    outputs = zip(output_classes(plan), annotated_outputs(plan, annotated), strict=True)
    return frozenset(index for classes, known in outputs if known for index in classes)


def class_targets(label: Tensor, classes: tuple[tuple[int, ...], ...]) -> Tensor:
    """The target of each output, 0.0 or 1.0, (B, outputs, *patch); all are 0 where the label is IGNORED.

    Args:
        label: (B, *patch), indices or IGNORED.
        classes: for each output, the indices that belong to it, see `output_classes`.
    """
    return torch.stack([_any_of(label, indices) for indices in classes], 1).float()


def marginal(logits: Tensor, label: Tensor, annotated: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the classes that were not annotated in a case into its background, in logits and labels.

    Args:
        logits: (B, classes, *patch).
        label: (B, *patch), class indices or IGNORED.
        annotated: bool (B, classes); the background (class 0) is always true.
    Returns: logits whose softmax is zero for classes that were not annotated, with their total probability added to the
        background's; labels without such classes.
    Source: Shi et al. 2021, Marginal loss and exclusion loss for partially supervised multi-organ segmentation, eq. 3.
    """
    spread = annotated.view(*annotated.shape, *(1,) * (logits.ndim - 2))
    outside = logits.masked_fill(spread, _IMPOSSIBLE)
    background = torch.logsumexp(torch.cat([logits[:, :1], outside[:, 1:]], 1), 1, keepdim=True)
    merged = torch.cat([background, logits[:, 1:].masked_fill(~spread[:, 1:], _IMPOSSIBLE)], 1)
    low, high = annotated[:, :IGNORED], annotated[:, IGNORED:]
    table = torch.cat([functional.pad(low, (0, IGNORED + 1 - low.shape[1]), value=True), high], 1)
    return merged, torch.where(table.gather(1, label.flatten(1).long()).view_as(label), label, 0)


def _any_of(label: Tensor, indices: tuple[int, ...]) -> Tensor:
    mask = label == indices[0]
    for index in indices[1:]:
        mask |= label == index
    return mask
