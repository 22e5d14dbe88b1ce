"""How the intensities of each channel become numbers around zero."""

from __future__ import annotations

import numpy as np

from attunet.config import Normalization
from attunet.planning.budget import Dials
from attunet.planning.case_facts import CLIPPED
from attunet.planning.fingerprint import Fingerprint

__all__ = ["clips", "plan_normalization"]


def plan_normalization(fingerprint: Fingerprint, dials: Dials, reasons: dict[str, str]) -> tuple[Normalization, ...]:
    """One entry per channel: CT by the data set's own window, all else case by case."""
    channels = len(fingerprint.channel_names)
    if not clips(fingerprint, dials):
        reasons["normalization"] = "each case and channel to mean 0 and standard deviation 1"
        return (Normalization(kind="zscore"),) * channels
    low, high = CLIPPED
    reasons["normalization"] = (
        f"CT: clipped to the {low:g}th to {high:g}th percentile of labelled voxels, then their mean and sd"
    )
    return tuple(_ct_window(fingerprint, channel) for channel in range(channels))


def clips(fingerprint: Fingerprint, dials: Dials) -> bool:
    """Whether intensities are clipped: those of CT, but in the paper's set-up."""
    return fingerprint.modality == "ct" and dials.preset != "paper"


def _ct_window(fingerprint: Fingerprint, channel: int) -> Normalization:
    values = np.concatenate([case.intensities[channel] for case in fingerprint.cases])
    lower, upper = (float(bound) for bound in np.percentile(values, CLIPPED))
    inside = np.clip(values, lower, upper)
    return Normalization(
        kind="ct", lower=lower, upper=upper, mean=float(inside.mean()), std=max(float(inside.std()), 1e-3)
    )
