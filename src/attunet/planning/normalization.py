"""How the intensities of each channel become numbers around zero."""

from __future__ import annotations

import numpy as np

from attunet.config import Normalization
from attunet.planning.budget import Dials
from attunet.planning.fingerprint import Fingerprint

__all__ = ["plan_normalization"]


def plan_normalization(fingerprint: Fingerprint, dials: Dials, reasons: dict[str, str]) -> tuple[Normalization, ...]:
    """One entry per channel: CT by the data set's own window, all else case by case."""
    channels = len(fingerprint.channel_names)
    if fingerprint.modality != "ct" or dials.preset == "paper":
        reasons["normalization"] = "each case and channel to mean 0 and standard deviation 1"
        return (Normalization(kind="zscore"),) * channels
    reasons["normalization"] = (
        "CT: clipped to the 0.5th to 99.5th percentile of labelled voxels, then their mean and sd"
    )
    return tuple(_ct_window(fingerprint, channel) for channel in range(channels))


def _ct_window(fingerprint: Fingerprint, channel: int) -> Normalization:
    values = np.concatenate([case.intensities[channel] for case in fingerprint.cases])
    lower, upper = (float(bound) for bound in np.percentile(values, [0.5, 99.5]))
    inside = np.clip(values, lower, upper)
    return Normalization(
        kind="ct", lower=lower, upper=upper, mean=float(inside.mean()), std=max(float(inside.std()), 1e-3)
    )
