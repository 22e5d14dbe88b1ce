"""What the outputs of a network should be: from indices of file values, and from what the case's annotator drew."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional

from attunet.config import Plan
from attunet.data.preprocess import IGNORED

__all__ = ["known_classes", "known_outputs", "marginal", "members", "targets"]

_IMPOSSIBLE = -1e4
"""A logit whose probability is 0 in float32, and whose product with 0 is still a number."""


def members(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """For each output, the indices into `plan.file_values` that belong to it."""
    values = plan.file_values
    if not plan.regions:
        return tuple((index,) for index in range(len(values)))
    return tuple(tuple(values.index(value) for value in united) for united in plan.regions.values())


def known_outputs(plan: Plan, annotated: Collection[str] | None) -> tuple[bool, ...]:
    """For each output, whether a case says where it is; `annotated` as in `Case`. The background always counts."""
    background = None if plan.regions else plan.outputs[0]
    return tuple(annotated is None or name == background or name in annotated for name in plan.outputs)


def known_classes(plan: Plan, annotated: Collection[str] | None) -> frozenset[int]:
    """The indices into `plan.file_values` that belong to an output the case says something about."""
    outputs = zip(members(plan), known_outputs(plan, annotated), strict=True)
    return frozenset(index for united, known in outputs if known for index in united)


def targets(label: Tensor, united: tuple[tuple[int, ...], ...]) -> Tensor:
    """What each output should be, 0.0 or 1.0, (B, outputs, *patch); all are 0 where the label is IGNORED.

    Args: labels (B, *patch), indices or IGNORED; for each output, the indices that belong to it (see `members`).
    """
    return torch.stack([_any_of(label, indices) for indices in united], 1).float()


def marginal(logits: Tensor, label: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, classes, *patch) and labels as if the classes unknown in a case were part of its background.

    Args: known (B, classes), the background (class 0) being always known.
    Returns: logits whose softmax is zero for unknown classes and their summed probability, added to the background's,
        for class 0; labels without unknown classes.
    Source: Shi et al. 2021, Marginal loss and exclusion loss for partially supervised multi-organ segmentation, eq. 3.
    """
    spread = known.view(*known.shape, *(1,) * (logits.ndim - 2))
    outside = logits.masked_fill(spread, _IMPOSSIBLE)
    background = torch.logsumexp(torch.cat([logits[:, :1], outside[:, 1:]], 1), 1, keepdim=True)
    merged = torch.cat([background, logits[:, 1:].masked_fill(~spread[:, 1:], _IMPOSSIBLE)], 1)
    drawn = functional.pad(known, (0, IGNORED + 1 - known.shape[1]), value=True)
    return merged, torch.where(drawn.gather(1, label.flatten(1).long()).view_as(label), label, 0)


def _any_of(label: Tensor, indices: tuple[int, ...]) -> Tensor:
    found = label == indices[0]
    for index in indices[1:]:
        found |= label == index
    return found
