"""The localizers of a fold: mean probabilities, and the region around what they find."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.bundle import Skipping
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.localizer import locate, search_region, skipping_region


class Says:
    """Answers with constant logits."""

    name, batch = "says", 2

    def __init__(self, *logits):
        self._logits = np.array(logits, np.float32)[:, None, None, None]

    def __call__(self, patches, attention=None):
        return EngineOutput(np.broadcast_to(self._logits, (len(patches), len(self._logits), *patches.shape[2:])), {})


def test_probabilities_are_the_mean_of_the_localizers(make_cascade, make_plan_of):
    plan = make_cascade(make_plan_of())
    image = np.zeros((1, 11, 6, 9), np.float32)
    found = locate([Says(0, 50, 0), Says(0, 0, 50)], plan, image)
    assert found.shape == (3, 11, 6, 9)
    np.testing.assert_allclose(found[:, 3, 3, 3], [0, 0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize(("margin", "reached"), [(0.0, 1), (2.9, 1), (3.0, 3), (6.5, 5), (7.0, 7)])
def test_the_margin_is_in_millimetres(margin, reached):
    probability = np.zeros((9, 9, 9), np.float32)
    probability[4, 4, 4] = 0.5
    region = search_region(probability, (3.0, 7.0, 100.0), 0.5, margin, (18, 18, 18))
    assert np.count_nonzero(region.mask) == reached
    assert region.mask[4, 4, 4]


def test_a_region_may_be_empty():
    assert search_region(np.zeros((3, 3, 3), np.float32), (1.0, 1.0, 1.0), 0.1, 50.0, (6, 6, 6)).empty


def test_a_fold_uses_its_own_threshold_and_the_coarse_spacing(make_cascade, make_plan_of):
    plan = make_cascade(make_plan_of(spacing=(1.0, 1.0, 2.0)))
    probabilities = np.zeros((3, 5, 5, 5), np.float32)
    probabilities[0] = 1
    probabilities[:, 2, 2, 2] = [0.6, 0.1, 0.3]
    audit = {"used": True, "cases": 9, "lost": 0, "skipped": 0.5, "bound": 0.3}
    found = [
        skipping_region(plan, probabilities, Skipping(threshold=level, margin=2.0, **audit), (10, 10, 10)).mask
        for level in (0.39, 0.41)
    ]
    assert np.count_nonzero(found[0]) == 5  # a voxel and its neighbours at 2 mm, not those at 4 mm
    assert not found[1].any()
