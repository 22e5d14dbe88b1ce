"""From logits to probabilities to label values: softmax over labels, or a sigmoid for each region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.record import PreprocessingRecord
from attunet.data.restoration.whole import restore_labels, restore_regions
from attunet.data.restoration.winning import Codes
from attunet.data.slabs import cores, each_slab
from attunet.data.volume import Array

__all__ = ["DiceSums", "activate", "as_probabilities", "codes_of", "decide", "expected_dice", "winners"]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Sums = npt.NDArray[np.float64]

SURELY_ABSENT = 0.1
"""A label that is predicted nowhere and is nowhere more probable than this is taken to be absent."""

_ROWS = 16  # of a volume that are summed up at once, to keep what that takes small


def activate(logits: Floats, plan: Plan, temperature: float = 1.0) -> Floats:
    """Probabilities of logits (outputs, I, J, K): over the first axis by softmax, or of each region by a sigmoid.

    Args: the temperature divides the logits; above 1 it makes the probabilities less certain.
    """
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


def decide(probabilities: Floats, record: PreprocessingRecord, plan: Plan) -> Array:
    """The label values (I, J, K) on the original grid: the most probable label, or the regions painted in order.

    Args: probabilities (outputs, I, J, K) on the model grid of the record.
    Raises: GeometryError when they are not on that grid.
    """
    restored = restore_regions if plan.regions else restore_labels
    return restored(probabilities, record, tuple(plan.labels.values()))


def codes_of(probabilities: Floats, plan: Plan) -> Codes:
    """What `decide` decides of probabilities that lie on the original grid: positions in the labels of the plan."""
    if not plan.regions:
        return _strongest(probabilities)[1]
    codes: Codes = np.zeros(probabilities.shape[1:], dtype=np.min_scalar_type(len(probabilities)))
    for index, channel in enumerate(probabilities, start=1):
        codes[channel > 0.5] = index
    return codes


def as_probabilities(restored: Floats, plan: Plan) -> Floats:
    """Interpolated probabilities (outputs, I, J, K) made to sum to 1, and to lie in [0, 1], in place.

    What is missing is background: nothing was looked at outside the content.
    """
    if not plan.regions:
        missing = 1 - restored[0]
        for channel in restored[1:]:
            missing -= channel
        restored[0] += missing
    return np.clip(restored, 0, 1, out=restored)


def winners(probabilities: Floats, plan: Plan) -> list[Mask]:
    """Where each foreground label (or region: with the ones painted over it) is decided for, on the same grid."""
    if plan.regions:
        return [channel > 0.5 for channel in probabilities]
    strongest = probabilities.argmax(axis=0)
    return [strongest == index for index in range(1, len(probabilities))]


def expected_dice(probabilities: Floats, plan: Plan) -> dict[str, float | None]:
    """The Dice that each foreground label would have if the probabilities p were right, on their grid.

    2 sum(p in mask) / (voxels in mask + sum(p)), where sum(p) is the size to expect of the reference.
    Returns: None for a label that is taken to be absent: predicted nowhere, nowhere more probable than 0.1.
    """
    return DiceSums.of_all(probabilities, plan).expected_dice(plan)


@dataclass(frozen=True)
class DiceSums:
    """What the expected Dice is made of, for each foreground label; those of several slabs add up to the whole's.

    Args: per label, voxels in the mask, the sum of its probability there and everywhere, and its highest.
    """

    voxels: Sums
    inside: Sums
    total: Sums
    highest: Sums

    @classmethod
    def none(cls, plan: Plan) -> Self:
        """Of nothing."""
        return cls(*np.zeros((4, len(plan.foreground))))

    @classmethod
    def of(cls, probabilities: Floats, plan: Plan) -> Self:
        """Of probabilities (outputs, I, J, K), or of a part of them."""
        if not probabilities.size:
            return cls.none(plan)
        foreground = probabilities[-len(plan.foreground) :]
        if plan.regions:
            masks = [channel > 0.5 for channel in foreground]
            voxels = np.array([np.count_nonzero(mask) for mask in masks], float)
            pairs = zip(foreground, masks, strict=True)
            inside = np.array([float(channel[mask].sum(dtype=np.float64)) for channel, mask in pairs])
        else:
            best, label = _strongest(probabilities)
            voxels = np.bincount(label.ravel(), minlength=len(probabilities))[1:].astype(float)
            inside = np.bincount(label.ravel(), best.ravel(), minlength=len(probabilities))[1:]
        total = np.array([float(channel.sum(dtype=np.float64)) for channel in foreground])
        return cls(voxels, inside, total, np.array([float(channel.max()) for channel in foreground]))

    @classmethod
    def of_all(cls, probabilities: Floats, plan: Plan) -> Self:
        """The same, on every core, and added up in order, so that the sums come out the same each time."""
        count = probabilities.shape[1]
        parts: dict[int, Self] = {}

        def work(planes: slice) -> None:
            parts[planes.start] = cls.of(probabilities[:, planes], plan)

        each_slab(work, count, min(_ROWS, max(1, -(-count // cores()))))
        total = cls.none(plan)
        for start in sorted(parts):
            total += parts[start]
        return total

    def __add__(self, other: Self) -> Self:
        """Of both parts."""
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
        found = 2 * self.inside / sizes
        return {
            name: None if gone else float(dice) for name, dice, gone in zip(plan.foreground, found, absent, strict=True)
        }


def _strongest(probabilities: Floats) -> tuple[Floats, Codes]:
    """The highest probability of each voxel and its class, the lower one of equals; in one pass through the classes."""
    best = probabilities[0].copy()
    label: Codes = np.zeros(best.shape, dtype=np.min_scalar_type(len(probabilities)))
    for index, channel in enumerate(probabilities[1:], start=1):
        np.maximum(label, (channel > best) * label.dtype.type(index), out=label)
        np.maximum(best, channel, out=best)
    return best, label
