"""Fingerprints made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.data.intensities import channel_values, value_spread
from attunet.data.modality import CaseChannels, ChannelModality
from attunet.planning.case_fingerprint import CaseFingerprint, LabelPosition
from attunet.planning.fingerprint import Fingerprint


def case_facts(shape, spacing, *, channels=1, raster=False, positions=None):
    """One case; `places` gives the centroid of each label value, in mm from the middle of the content."""
    intensities = np.random.default_rng(0).normal(100, 20, (channels, 400)).astype(np.float32)
    found = {value: LabelPosition(10, tuple(map(float, point))) for value, point in (positions or {}).items()}
    voxels = {0: 90, **{value: place.voxels for value, place in found.items()}}
    values = tuple(map(channel_values, intensities))
    evidence = CaseChannels("case", raster, values, (None,) * channels, (None,) * channels)
    spreads = tuple(value_spread(channel.reshape(20, 20, 1)) for channel in intensities)
    return CaseFingerprint(shape, shape, spacing, intensities, voxels, evidence, spreads, positions=found)


def all_of(kind, channels=1):
    return (ChannelModality(kind, "made so", "declared"),) * channels


@pytest.fixture(scope="session")
def make_fingerprint():
    """`make_fingerprint(shape, spacing, ...)`: two cases alike, with a foreground around 100."""

    def make(
        shape=(64, 60, 40), spacing=(1.0, 1.0, 1.0), *, channels=1, modality="mr", classes=2, cases=2, regions=None
    ):
        positions = dict.fromkeys(range(1, classes), (0, 0, 0))
        facts = case_facts(shape, spacing, channels=channels, raster=modality == "image", positions=positions)
        labels = {"background": 0, **{f"label_{value}": value for value in range(1, classes)}}
        names = tuple(f"channel {index}" for index in range(channels))
        return Fingerprint("made", (facts,) * cases, labels, None, names, all_of(modality, channels), regions or {})

    return make


@pytest.fixture(scope="session")
def place_labels():
    """`place_labels({"liver": [(x, y, z), None, ...], ...})`: a fingerprint of cases of 100 mm with labels there."""

    def make(centroids, *, modality="ct", regions=None):
        labels = {"background": 0, **{name: value for value, name in enumerate(centroids, start=1)}}
        cases = [
            case_facts(
                (100, 100, 1 if modality == "image" else 100),
                (1.0, 1.0, 1.0),
                raster=modality == "image",
                positions={labels[name]: point for name, point in zip(centroids, points, strict=True) if point},
            )
            for points in zip(*centroids.values(), strict=True)
        ]
        return Fingerprint("placed", tuple(cases), labels, None, ("channel",), all_of(modality), regions or {})

    return make
