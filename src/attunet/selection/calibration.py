"""Temperature scaling: one temperature, fitted to voxels of held-out cases, calibrates the probabilities.

A model that predicts 0.9 should be right nine times out of ten; the logits are divided by the temperature, which
changes no mask. Source: Guo et al. 2017, "On calibration of modern neural networks".
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
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.5, 4.0
_MAX_LOGITS = 3_000_000  # values of all samples in a fit: more would change only its third digit, and take minutes
_MIN_CASES = 5
_PARTS = 5


@dataclass(frozen=True)
class Reliability:
    """The accuracy of decisions by their confidence, in bins of equal width from 0 to 1.

    Args:
        confidence: mean confidence in each bin; nan in an empty one.
        accuracy: share of correct decisions in each bin; nan in an empty one.
        share: share of the voxels in each bin.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    share: tuple[float, ...]

    @property
    def ece(self) -> float:
        """Expected calibration error: mean difference of confidence and accuracy, bins weighted by their voxels."""
        bins = zip(self.confidence, self.accuracy, self.share, strict=True)
        return float(sum(abs(confidence - accuracy) * share for confidence, accuracy, share in bins if share))


@dataclass(frozen=True)
class Calibration:
    """A temperature, and its effect on cases that were not used to fit it.

    Args:
        fitted: the temperature fitted on all cases.
        loss_before: mean negative log-likelihood without a temperature.
        loss_after: the same, each fold at the temperature fitted on the others.
        before: reliability without a temperature.
        after: reliability, each fold at the temperature fitted on the others.
    """

    fitted: float
    loss_before: float
    loss_after: float
    before: Reliability
    after: Reliability

    @property
    def accepted(self) -> bool:
        """Whether it lowers the loss of held-out cases and does not raise their calibration error."""
        return self.loss_after < self.loss_before and self.after.ece <= self.before.ece

    @property
    def temperature(self) -> float:
        """The divisor of the logits; 1 if the fitted one is not accepted."""
        return self.fitted if self.accepted else 1.0

    @property
    def reason(self) -> str:
        """The decision and its measurements, in one sentence."""
        figures = (
            f"on held-out folds, the negative log-likelihood goes from {self.loss_before:.4g} to {self.loss_after:.4g} "
            f"and the calibration error (ECE) near the foreground from {self.before.ece:.4f} to {self.after.ece:.4f}"
        )
        return f"{self.fitted:.3f}: {figures}" if self.accepted else f"1, as {self.fitted:.3f} does not help: {figures}"


def calibrate(samples: Samples, folds: Mapping[str, int], *, regions: bool) -> Calibration | None:
    """Fit the temperature with the highest likelihood, and measure its effect on held-out folds.

    Args:
        samples: case to its voxels.
        folds: case to its fold; the cases of a single fold are divided into five parts instead.
        regions: whether the outputs are overlapping regions (sigmoid) rather than classes (softmax).
    Returns: None with fewer than five cases.
    """
    if len(samples) < _MIN_CASES:
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
    """Number of voxels per case that a fit uses, so that it takes seconds."""
    return max(200, _MAX_LOGITS // (outputs * cases))


def likelihood_loss(sample: Sample, temperature: float, *, regions: bool) -> float:
    """Mean negative log-likelihood of the reference over the whole case.

    Args:
        sample: voxels of the case, with their weights.
        temperature: divisor of the logits.
        regions: whether the outputs are regions, whose losses are averaged, rather than classes.
    Returns: the weighted mean over the voxels.
    """
    scaled = sample.logits / np.float32(temperature)
    if regions:
        losses = -np.where(sample.truth, log_expit(scaled), log_expit(-scaled)).mean(axis=0)
    else:
        losses = -np.where(sample.truth, log_softmax(scaled, axis=0), 0.0).sum(axis=0)
    return float(np.average(losses, weights=sample.weights))


def reliability(samples: Sequence[tuple[Sample, float]], *, regions: bool) -> Reliability:
    """Confidence against accuracy of samples at their temperatures, within three voxels of any foreground.

    The confidence of a voxel is the probability of the predicted class, or, for each region, that of the decision for
    or against it. Distant background is left out: every model is right and confident there, which would hide the rest.
    """
    decisions = [_decisions(sample, temperature, regions) for sample, temperature in samples if sample.near.any()]
    confidence, right, weights = np.concatenate(decisions, axis=1) if decisions else np.zeros((3, 0))
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    mass = np.bincount(bins, weights, BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights * values, BINS) / mass for values in (confidence, right)]
    share = mass / max(mass.sum(), np.finfo(float).tiny)
    return Reliability(*(tuple(float(value) for value in row) for row in (*means, share)))


def _decisions(sample: Sample, temperature: float, regions: bool) -> Doubles:
    """(3, N): confidence, correctness (0 or 1) and weight of each decision; the weights of a case sum to 1."""
    scaled = sample.logits[:, sample.near].astype(np.float64) / temperature
    truth = sample.truth[:, sample.near]
    weights = np.full(truth.shape[1], 1 / (truth.size if regions else truth.shape[1]))
    if regions:
        probabilities = expit(scaled)
        right = (probabilities > 0.5) == truth
        return np.stack(
            [np.maximum(probabilities, 1 - probabilities).ravel(), right.ravel(), np.tile(weights, len(truth))]
        )
    right = np.take_along_axis(truth, scaled.argmax(axis=0)[None], axis=0)[0]
    return np.stack([softmax(scaled, axis=0).max(axis=0), right, weights])


def _fit(samples: Sequence[Sample], regions: bool) -> float:
    """The temperature with the smallest mean loss; all cases have the same weight."""
    fit = minimize_scalar(
        lambda log: _mean_loss([(sample, float(np.exp(log))) for sample in samples], regions),
        bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(fit.x))


def _mean_loss(samples: Sequence[tuple[Sample, float]], regions: bool) -> float:
    return float(np.mean([likelihood_loss(sample, temperature, regions=regions) for sample, temperature in samples]))


def _parts(samples: Samples, folds: Mapping[str, int]) -> list[list[Sample]]:
    """The samples of each fold, or of five parts of a single fold."""
    known = sorted({folds[case] for case in samples})
    if len(known) > 1:
        return [[samples[case] for case in samples if folds[case] == fold] for fold in known]
    every = list(samples.values())
    return [every[start::_PARTS] for start in range(min(_PARTS, len(every)))]
