"""A few thousand voxels of a case with their logits and reference: enough to calibrate a model."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from scipy.special import logit

from attunet.config import Plan
from attunet.data.preprocess import IGNORED
from attunet.data.volume import Array
from attunet.files import staged
from attunet.inference.outputs import activate, expected_dice

__all__ = ["TEMPERATURES", "Sample", "draw_sample"]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

VOXELS = 20_000
NEAR = 3
TEMPERATURES = tuple(0.5 * 2 ** (step / 2) for step in range(7))
"""Temperatures from 0.5 to 4 at which the expected Dice is saved, to interpolate it at the fitted temperature."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Voxels of the model grid in random order.

    Args:
        logits: (outputs, N), for classes up to a constant per voxel.
        truth: (outputs, N), whether the voxel is of this class, or in this region.
        weights: (N,), number of voxels of the case that each one represents.
        near: (N,), whether it is within three voxels of predicted or true foreground.
        expected: (temperatures, labels), the expected Dice of each foreground label; nan for a label that counts as
            absent.
        origin: sha256 of the weights that predicted them.
    """

    logits: Floats
    truth: Mask
    weights: Floats
    near: Mask
    expected: Floats
    origin: str

    def head(self, count: int) -> Self:
        """The same sample with only its first voxels, which are as random as all of them."""
        return replace(
            self,
            logits=self.logits[:, :count],
            truth=self.truth[:, :count],
            weights=self.weights[:count],
            near=self.near[:count],
        )

    def expected_at(self, temperature: float) -> Floats:
        """(labels,) the expected Dice of each foreground label at any temperature from 0.5 to 4."""
        position = np.interp(np.log2(temperature), np.log2(TEMPERATURES), np.arange(len(TEMPERATURES)))
        low = min(int(position), len(TEMPERATURES) - 2)
        share = np.float32(position - low)
        # a label counts as present if it is present at either temperature
        first, second = self.expected[low], self.expected[low + 1]
        blended = (1 - share) * first + share * second
        return np.asarray(np.where(np.isnan(first), second, np.where(np.isnan(second), first, blended)))

    def save(self, path: Path) -> None:
        """Write an npz file without pickle, atomically."""
        with staged(path) as stage:
            np.savez_compressed(
                stage,
                allow_pickle=False,
                logits=np.clip(self.logits, -6e4, 6e4).astype(np.float16),  # float16 ends at 65504
                truth=self.truth,
                weights=self.weights,
                near=self.near,
                expected=self.expected,
                origin=self.origin,
            )

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Load a sample; None when the file is missing or incomplete."""
        try:
            with np.load(path, allow_pickle=False) as content:
                return cls(
                    content["logits"].astype(np.float32),
                    content["truth"],
                    content["weights"],
                    content["near"],
                    content["expected"],
                    str(content["origin"]),
                )
        except Exception:  # numpy raises any error on damaged bytes
            return None


def draw_sample(
    case: str, probabilities: Floats, truth: Array, plan: Plan, origin: str, voxels: int = VOXELS
) -> Sample:
    """Draw half of the voxels from within three voxels of any foreground, half from elsewhere; reproducible per case.

    Args:
        case: its name, which seeds the draw.
        probabilities: (outputs, I, J, K) on the model grid; they are overwritten, to save memory.
        truth: (I, J, K) indices into the plan's `file_classes`, or `IGNORED`.
        plan: plan of the model.
        origin: sha256 of the weights.
        voxels: number of voxels to draw.
    Returns: the sample.
    """
    random = np.random.default_rng(zlib.crc32(case.encode()))
    foreground = (truth > 0) & (truth != IGNORED)
    foreground |= (probabilities > 0.5).any(axis=0) if plan.regions else probabilities.argmax(axis=0) > 0
    near = binary_dilation(foreground, iterations=NEAR).ravel()
    known = truth.ravel() != IGNORED
    close = np.flatnonzero(near & known)
    far = int(np.count_nonzero(known)) - len(close)
    inner = random.choice(close, min(voxels // 2, len(close)), replace=False)
    outer = _far(random, ~near & known, voxels - voxels // 2, far)
    weights = np.repeat([len(close) / max(1, len(inner)), far / max(1, len(outer))], [len(inner), len(outer)])
    order = random.permutation(len(weights))
    chosen = np.concatenate([inner, outer])[order]
    logits = _to_logits(probabilities, plan)
    return Sample(
        logits.reshape(len(logits), -1)[:, chosen],
        _one_hot(truth.ravel()[chosen], plan),
        weights[order].astype(np.float32),
        near[chosen],
        np.stack([_expected(logits, plan, temperature) for temperature in TEMPERATURES]),
        origin,
    )


def _to_logits(probabilities: Floats, plan: Plan) -> Floats:
    """Convert probabilities to logits in place: exact for regions, up to a constant per voxel for classes."""
    if plan.regions:
        np.clip(probabilities, 1e-7, 1 - 1e-7, out=probabilities)
        return np.asarray(logit(probabilities, out=probabilities))
    np.maximum(probabilities, 1e-30, out=probabilities)
    return np.log(probabilities, out=probabilities)


def _expected(logits: Floats, plan: Plan, temperature: float) -> Floats:
    dice = expected_dice(activate(logits, plan, temperature), plan)
    return np.array([np.nan if value is None else value for value in dice.values()], np.float32)


def _far(random: np.random.Generator, allowed: Mask, number: int, count: int) -> npt.NDArray[np.int64]:
    """Draw allowed positions, by rejection sampling if there are many, because a list of all would need much memory."""
    if count <= 4 * number:
        every = np.flatnonzero(allowed)
        return random.choice(every, min(number, count), replace=False)
    draws = random.integers(0, len(allowed), size=int(2 * number * len(allowed) / count))
    hits = np.unique(draws[allowed[draws]])
    return random.permutation(hits)[:number]


def _one_hot(indices: Array, plan: Plan) -> Mask:
    values = np.array([values[0] if values else plan.file_classes[0][0] for values in plan.file_classes])[indices]
    labels = plan.regions or {name: (value,) for name, value in plan.labels.items()}
    return np.stack([np.isin(values, members) for members in labels.values()])
