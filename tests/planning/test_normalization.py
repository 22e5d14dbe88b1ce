"""How intensities are normalised, by kind of image."""

from __future__ import annotations

import pytest

from attunet.planning.budget import Dials
from attunet.planning.normalization import plan_normalization


def test_ct_is_clipped_to_the_foreground(make_fingerprint):
    reasons = {}
    found = plan_normalization(make_fingerprint(modality="ct", channels=2), Dials(), reasons)
    assert [entry.kind for entry in found] == ["ct", "ct"]
    assert 40 < found[0].lower < found[0].mean < found[0].upper < 160
    assert "clipped" in reasons["normalization"]


@pytest.mark.parametrize(("modality", "preset"), [("mr", "default"), ("image", "listing"), ("ct", "paper")])
def test_all_else_is_normalised_by_itself(modality, preset, make_fingerprint):
    reasons = {}
    found = plan_normalization(make_fingerprint(modality=modality, channels=3), Dials(preset=preset), reasons)
    assert [entry.kind for entry in found] == ["zscore"] * 3
    assert "each case" in reasons["normalization"]
