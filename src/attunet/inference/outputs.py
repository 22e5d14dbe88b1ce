"""From logits to probabilities to label values: softmax over labels, or a sigmoid for each region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.argmax_resample import ClassIndices
from attunet.data.slabs import cores, each_slab

__all__ = ["DiceSums", "activate", "biases_of", "class_indices", "expected_dice", "label_masks", "normalized"]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Sums = npt.NDArray[np.float64]

SURELY_ABSENT = 0.1
"""A label that is not predicted and whose probability never exceeds this value counts as absent."""

_ROWS = 16  # values of a volume that are summed at once, to save memory


def activate(logits: Floats, plan: Plan, temperature: float = 1.0, bias: Sequence[float] = ()) -> Floats:
    """Convert logits to probabilities: by a softmax over the first axis, or a sigmoid for each region.

    Args:
        logits: (outputs, I, J, K).
        plan: the plan, which says whether there are regions.
        temperature: divides the logits; above 1 it makes the probabilities less certain.
        bias: added to the logits of each output first; empty for none.
    Returns: probabilities of the same shape.
    """
    if any(bias):
        shift = np.array(bias, np.float32).reshape(-1, *(1,) * (logits.ndim - 1))
        scaled = (logits + shift) / np.float32(temperature)
    else:
        scaled = logits / np.float32(temperature)
    if plan.regions:
        scaled *= 0.5  # 1 / (1 + exp(-x)) without its overflow
        np.tanh(scaled, out=scaled)
        scaled += 1
        scaled *= 0.5
        return scaled
    scaled -= scaled.max(axis=0)
    np.exp(scaled, out=scaled)
    total = scaled[0].copy()
    for channel in scaled[1:]:  # class by class, so that the sum does not depend on the shape of a slab
        total += channel
    scaled /= total
    return scaled


def biases_of(plan: Plan, logit_bias: Mapping[str, float]) -> tuple[float, ...]:
    """The bias of each output, in the order of the plan; empty if there is none."""
    return tuple(logit_bias.get(name, 0.0) for name in plan.outputs) if logit_bias else ()


def class_indices(probabilities: Floats, plan: Plan) -> ClassIndices:
    """The index into the plan's labels of each voxel: the most probable class, or the regions painted in order.

    Args: probabilities (outputs, I, J, K), not interpolated.
    """
    if not plan.regions:
        return _argmax(probabilities)[1]
    classes: ClassIndices = np.zeros(probabilities.shape[1:], dtype=np.min_scalar_type(len(probabilities)))
    for index, channel in enumerate(probabilities, start=1):
        classes[channel > 0.5] = index
    return classes


def normalized(restored: Floats, plan: Plan) -> Floats:
    """Normalize interpolated probabilities (outputs, I, J, K) in place to lie in [0, 1] and sum to 1.

    The missing probability goes to the background: nothing was predicted outside the content.
    """
    if not plan.regions:
        missing = 1 - restored[0]
        for channel in restored[1:]:
            missing -= channel
        restored[0] += missing
    return np.clip(restored, 0, 1, out=restored)


def label_masks(probabilities: Floats, plan: Plan) -> list[Mask]:
    """The mask of each foreground label (of a region, including the regions painted over it) on the same grid."""
    if plan.regions:
        return [channel > 0.5 for channel in probabilities]
    classes = probabilities.argmax(axis=0)
    return [classes == index for index in range(1, len(probabilities))]


def expected_dice(probabilities: Floats, plan: Plan) -> dict[str, float | None]:
    """The Dice that each foreground label would have if the probabilities p were right.

    2 sum(p in mask) / (voxels in mask + sum(p)), where sum(p) is the expected size of the reference.
    Returns: Dice by label; None for a label that counts as absent: not predicted, and never more probable than 0.1.
    """
    return DiceSums.of_all(probabilities, plan).expected_dice(plan)


@dataclass(frozen=True)
class DiceSums:
    """The sums behind the expected Dice of each foreground label; the sums of several slabs can be added.

    Args:
        voxels: voxels of the mask.
        inside: sum of the probabilities in the mask.
        total: sum of all probabilities.
        highest: the highest probability.
    """

    voxels: Sums
    inside: Sums
    total: Sums
    highest: Sums

    @classmethod
    def zero(cls, plan: Plan) -> Self:
        """The sums for no voxels."""
        return cls(*np.zeros((4, len(plan.foreground))))

    @classmethod
    def of(cls, probabilities: Floats, plan: Plan) -> Self:
        """The sums for probabilities (outputs, I, J, K), or for a part of them."""
        if not probabilities.size:
            return cls.zero(plan)
        foreground = probabilities[-len(plan.foreground) :]
        if plan.regions:
            masks = [channel > 0.5 for channel in foreground]
            voxels = np.array([np.count_nonzero(mask) for mask in masks], float)
            pairs = zip(foreground, masks, strict=True)
            inside = np.array([float(channel[mask].sum(dtype=np.float64)) for channel, mask in pairs])
        else:
            best, label = _argmax(probabilities)
            voxels = np.bincount(label.ravel(), minlength=len(probabilities))[1:].astype(float)
            inside = np.bincount(label.ravel(), best.ravel(), minlength=len(probabilities))[1:]
        total = np.array([float(channel.sum(dtype=np.float64)) for channel in foreground])
        return cls(voxels, inside, total, np.array([float(channel.max()) for channel in foreground]))

    @classmethod
    def of_all(cls, probabilities: Floats, plan: Plan) -> Self:
        """The same on every core, added up in a fixed order, so that the sums are reproducible."""
        count = probabilities.shape[1]
        parts: dict[int, Self] = {}

        def work(planes: slice) -> None:
            parts[planes.start] = cls.of(probabilities[:, planes], plan)

        each_slab(work, count, min(_ROWS, max(1, -(-count // cores()))))
        total = cls.zero(plan)
        for start in sorted(parts):
            total += parts[start]
        return total

    def __add__(self, other: Self) -> Self:
        """The sums of both parts."""
        return type(self)(
            self.voxels + other.voxels,
            self.inside + other.inside,
            self.total + other.total,
            np.maximum(self.highest, other.highest),
        )

    def expected_dice(self, plan: Plan) -> dict[str, float | None]:
        """See `expected_dice`."""
        absent = (self.voxels == 0) & (self.highest <= SURELY_ABSENT)
        sizes = np.where(absent, 1, self.voxels + self.total)
        scores = 2 * self.inside / sizes
        return {
            name: None if gone else float(dice)
            for name, dice, gone in zip(plan.foreground, scores, absent, strict=True)
        }


def _argmax(probabilities: Floats) -> tuple[Floats, ClassIndices]:
    """The highest probability of each voxel and its class (the lower one of equals), in one pass over the classes."""
    best = probabilities[0].copy()
    label: ClassIndices = np.zeros(best.shape, dtype=np.min_scalar_type(len(probabilities)))
    for index, channel in enumerate(probabilities[1:], start=1):
        np.maximum(label, (channel > best) * label.dtype.type(index), out=label)
        np.maximum(best, channel, out=best)
    return best, label
