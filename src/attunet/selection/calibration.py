"""Probabilities that mean what they say: one temperature, fitted on voxels that the model had not seen.

Guo et al. 2017, "On calibration of modern neural networks". A model that says 0.9 should be right nine times out of
ten; the temperature divides its logits until it is, and changes no mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

from attunet.selection.samples import Sample

__all__ = ["BINS", "Calibration", "Reliability", "calibrate", "likelihood_loss", "reliability", "voxels_per_case"]

Doubles = npt.NDArray[np.float64]
Samples = Mapping[str, Sample]

BINS = 15
COLDEST, HOTTEST = 0.5, 4.0
_MOST_NUMBERS = 3_000_000  # logits in all that a fit looks at: more of them change its third digit, and cost minutes
_FEWEST_CASES = 5
_PARTS = 5


@dataclass(frozen=True)
class Reliability:
    """How often the decision is right, by how sure it was: one entry per bin of equal width from 0 to 1.

    Args: mean confidence and share of right decisions in each bin (nan in an empty one); share of the voxels in it.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    share: tuple[float, ...]

    @property
    def ece(self) -> float:
        """Expected calibration error: mean distance of confidence and accuracy, bins weighted by their voxels."""
        bins = zip(self.confidence, self.accuracy, self.share, strict=True)
        return float(sum(abs(confidence - accuracy) * share for confidence, accuracy, share in bins if share))


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to cases that it was not fitted on.

    Args: the temperature fitted on all cases; loss (mean negative log-likelihood) and reliability without it; the
        same, each fold at the temperature fitted on the others.
    """

    fitted: float
    loss_before: float
    loss_after: float
    before: Reliability
    after: Reliability

    @property
    def kept(self) -> bool:
        """Whether it lowers the loss of unseen cases, and does not raise their calibration error."""
        return self.loss_after < self.loss_before and self.after.ece <= self.before.ece

    @property
    def temperature(self) -> float:
        """What to divide the logits by: 1 where nothing was won."""
        return self.fitted if self.kept else 1.0

    @property
    def reason(self) -> str:
        """What was kept and why, in one sentence."""
        figures = (
            f"on folds left out, the negative log-likelihood goes from {self.loss_before:.4g} to {self.loss_after:.4g} "
            f"and the calibration error (ECE) near the foreground from {self.before.ece:.4f} to {self.after.ece:.4f}"
        )
        return f"{self.fitted:.3f}: {figures}" if self.kept else f"1, as {self.fitted:.3f} does not help: {figures}"


def calibrate(samples: Samples, folds: Mapping[str, int], *, regions: bool) -> Calibration | None:
    """The temperature that makes the true classes most likely, and its worth on folds left out.

    Args: case to its voxels; case to its fold; whether the outputs are overlapping regions (sigmoid) rather than
        classes (softmax). Where there is one fold only, its cases are divided into five parts instead.
    Returns: None with fewer than five cases.
    """
    if len(samples) < _FEWEST_CASES:
        return None
    parts = _parts(samples, folds)
    every = [sample for part in parts for sample in part]
    held_out = []
    for index, part in enumerate(parts):
        temperature = _fit([sample for other in parts[:index] + parts[index + 1 :] for sample in other], regions)
        held_out += [(sample, temperature) for sample in part]
    plain = [(sample, 1.0) for sample in every]
    return Calibration(
        fitted=_fit(every, regions),
        loss_before=_mean_loss(plain, regions),
        loss_after=_mean_loss(held_out, regions),
        before=reliability(plain, regions=regions),
        after=reliability(held_out, regions=regions),
    )


def voxels_per_case(outputs: int, cases: int) -> int:
    """How many voxels of each case are enough to fit a temperature, so that it takes seconds."""
    return max(200, _MOST_NUMBERS // (outputs * cases))


def likelihood_loss(sample: Sample, temperature: float, *, regions: bool) -> float:
    """Mean negative log-likelihood of the truth over the whole case, by the voxels' weights; of all regions' mean."""
    scaled = sample.logits / np.float32(temperature)
    if regions:
        losses = -np.where(sample.truth, log_expit(scaled), log_expit(-scaled)).mean(axis=0)
    else:
        losses = -np.where(sample.truth, log_softmax(scaled, axis=0), 0.0).sum(axis=0)
    return float(np.average(losses, weights=sample.weights))


def reliability(samples: Sequence[tuple[Sample, float]], *, regions: bool) -> Reliability:
    """Confidence against accuracy of samples at their temperatures, within three voxels of any foreground.

    The confidence of a voxel is the probability of the class that won, or, of each region, that of the decision
    for or against it. The background far away is left out: it is right and sure in every model and would hide
    all else.
    """
    found = [_decisions(sample, temperature, regions) for sample, temperature in samples if sample.near.any()]
    confidence, right, weights = np.concatenate(found, axis=1) if found else np.zeros((3, 0))
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    mass = np.bincount(bins, weights, BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights * values, BINS) / mass for values in (confidence, right)]
    share = mass / max(mass.sum(), np.finfo(float).tiny)
    return Reliability(*(tuple(float(value) for value in row) for row in (*means, share)))


def _decisions(sample: Sample, temperature: float, regions: bool) -> Doubles:
    """(3, N): confidence, whether right (0 or 1), and weight of each decision; the weights of a case sum to 1."""
    scaled = sample.logits[:, sample.near].astype(np.float64) / temperature
    truth = sample.truth[:, sample.near]
    weights = np.full(truth.shape[1], 1 / (truth.size if regions else truth.shape[1]))
    if regions:
        likely = expit(scaled)
        right = (likely > 0.5) == truth
        return np.stack([np.maximum(likely, 1 - likely).ravel(), right.ravel(), np.tile(weights, len(truth))])
    right = np.take_along_axis(truth, scaled.argmax(axis=0)[None], axis=0)[0]
    return np.stack([softmax(scaled, axis=0).max(axis=0), right, weights])


def _fit(samples: Sequence[Sample], regions: bool) -> float:
    """The temperature of the smallest mean loss; every case counts the same."""
    found = minimize_scalar(
        lambda log: _mean_loss([(sample, float(np.exp(log))) for sample in samples], regions),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(found.x))


def _mean_loss(samples: Sequence[tuple[Sample, float]], regions: bool) -> float:
    return float(np.mean([likelihood_loss(sample, temperature, regions=regions) for sample, temperature in samples]))


def _parts(samples: Samples, folds: Mapping[str, int]) -> list[list[Sample]]:
    """The samples of each fold, or of five parts of the only one."""
    known = sorted({folds[case] for case in samples})
    if len(known) > 1:
        return [[samples[case] for case in samples if folds[case] == fold] for fold in known]
    every = list(samples.values())
    return [every[start::_PARTS] for start in range(min(_PARTS, len(every)))]
