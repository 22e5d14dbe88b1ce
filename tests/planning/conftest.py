"""Fingerprints made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.planning.fingerprint import CaseFacts, Fingerprint


@pytest.fixture(scope="session")
def make_fingerprint():
    """`make_fingerprint(shape, spacing, ...)`: two cases alike, with a foreground around 100."""

    def make(shape=(64, 60, 40), spacing=(1.0, 1.0, 1.0), *, channels=1, modality="mr", classes=2, cases=2):
        intensities = np.random.default_rng(0).normal(100, 20, (channels, 400)).astype(np.float32)
        facts = CaseFacts(shape, spacing, modality == "image", intensities, {0: 90, 1: 10}, False)
        labels = {"background": 0, **{f"label_{value}": value for value in range(1, classes)}}
        names = tuple(f"channel {index}" for index in range(channels))
        return Fingerprint("made", (facts,) * cases, labels, None, names, modality)

    return make
