"""From logits to probabilities to label values: softmax over labels, or a sigmoid for each region."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.preprocess import Trail, restore, restore_labels, restore_regions
from attunet.data.volume import Array

__all__ = ["activate", "decide", "expected_dice", "on_image", "winners"]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SURELY_ABSENT = 0.1
"""A label that is predicted nowhere and is nowhere more probable than this is taken to be absent."""


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
    scaled /= scaled.sum(axis=0)
    return scaled


def decide(probabilities: Floats, trail: Trail, plan: Plan) -> Array:
    """The label values (I, J, K) on the original grid: the most probable label, or the regions painted in order.

    Args: probabilities (outputs, I, J, K) on the model grid of the trail.
    Raises: GeometryError when they are not on that grid.
    """
    restored = restore_regions if plan.regions else restore_labels
    return restored(probabilities, trail, tuple(plan.labels.values()))


def on_image(probabilities: Floats, trail: Trail, plan: Plan) -> Floats:
    """The probabilities on the original grid, float32 (outputs, I, J, K); outside the content all is background."""
    restored = restore(probabilities, trail)
    if not plan.regions:
        restored[0] += 1 - restored.sum(axis=0)
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
    foreground = probabilities if plan.regions else probabilities[1:]
    masks = winners(probabilities, plan)
    return {name: _expected(p, mask) for name, p, mask in zip(plan.foreground, foreground, masks, strict=True)}


def _expected(probability: Floats, mask: Mask) -> float | None:
    voxels = int(mask.sum())
    if not voxels and probability.max() <= SURELY_ABSENT:
        return None
    inside = float(probability[mask].sum(dtype=np.float64))
    return 2 * inside / (voxels + float(probability.sum(dtype=np.float64)))
