"""The fingerprint in a few numbers, as a plan keeps it."""

from __future__ import annotations

import numpy as np

from attunet.config import FingerprintSummary
from attunet.planning.case_facts import CLIPPED
from attunet.planning.fingerprint import Fingerprint
from attunet.planning.mirroring import Mirroring

__all__ = ["describe_labels", "summarize"]

_SHOWN = 8


def summarize(fingerprint: Fingerprint, mirroring: Mirroring) -> FingerprintSummary:
    """What the planner saw."""
    i, j, k = (int(size) for size in np.median(fingerprint.shapes, axis=0))
    x, y, z = (round(float(size), 6) for size in np.median(fingerprint.spacings, axis=0))
    voxels = fingerprint.label_voxels
    return FingerprintSummary(
        cases=len(fingerprint.cases),
        channels=len(fingerprint.channel_names),
        median_shape=(i, j, k),
        median_spacing=(x, y, z),
        label_voxels=fingerprint.label_counts(),
        label_cases=dict(zip(fingerprint.foreground, (int(count) for count in (voxels > 0).sum(axis=0)), strict=True)),
        intensities=tuple(_intensities(fingerprint, channel) for channel in range(len(fingerprint.channel_names))),
        lateral=mirroring.lateral,
        fixed_order=mirroring.fixed_order,
    )


def describe_labels(fingerprint: Fingerprint) -> str:
    """How many cases show each label, and its median size there: in ml, or in pixels of a picture."""
    voxels = fingerprint.label_voxels
    pictures = fingerprint.modality == "image"
    sizes = voxels if pictures else voxels * np.prod(fingerprint.spacings, axis=1)[:, None] / 1000
    clauses = []
    for name, column in list(zip(fingerprint.foreground, sizes.T, strict=True))[:_SHOWN]:
        shown = column[column > 0]
        size = f" ({_amount(float(np.median(shown)))} {'pixels' if pictures else 'ml'})" if shown.size else ""
        clauses.append(f"{name} in {shown.size}{size}")
    more = len(fingerprint.foreground) - _SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return f"found in {len(fingerprint.cases)} cases, median size in brackets: {', '.join(clauses)}{rest}"


def _amount(size: float) -> str:
    return f"{size:,.0f}" if size >= 100 else f"{size:.2g}"


def _intensities(fingerprint: Fingerprint, channel: int) -> tuple[float, ...]:
    values = np.concatenate([case.intensities[channel] for case in fingerprint.cases]).astype(np.float64)
    lower, upper = np.percentile(values, CLIPPED)
    return tuple(float(f"{number:.6g}") for number in (lower, values.mean(), values.std(), upper))
