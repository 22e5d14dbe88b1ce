"""Sums of windows on the planes in memory."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.inference.windows.canvas import Canvas
from attunet.inference.windows.tiling import Tiling


def ones(*shape):
    return np.ones(shape, np.float32)


@pytest.mark.parametrize("patch", [(4, 4, 4), (4, 4, 1), (1, 4, 4)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_what_reaches_beyond_the_band_or_the_grid_is_cut_off(patch, axes):
    tiling = Tiling.of((6, 6, 6), patch, 1.0, axes)
    canvas = Canvas(tiling, slice(1, 4), 6)
    start = (-2 if patch[0] > 2 else 1, 3, 2)
    canvas.add("logits", np.stack([ones(*patch), 3 * ones(*patch)]), [1, 0], start, 2 * ones(*patch))
    canvas.weigh(start, 2 * ones(*patch))
    outputs, covered = canvas.divided(slice(0, 6), 1)
    expected = np.zeros((6, 6, 6), bool)
    expected[tuple(slice(max(low, 0), low + edge) for low, edge in zip(start, patch, strict=True))] = True
    expected = expected.transpose(axes)[:, 1:4]
    np.testing.assert_array_equal(outputs["logits"], [3 * expected, expected])
    np.testing.assert_array_equal(covered, expected)


def test_planes_that_are_done_make_room():
    tiling = Tiling.of((9, 3, 3), (3, 3, 3), 1.0)
    canvas = Canvas(tiling, slice(0, 3), 3)
    for index, start in enumerate(tiling, start=1):
        canvas.add("logits", index * ones(1, 3, 3, 3), [0], start, ones(3, 3, 3))
        canvas.weigh(start, ones(3, 3, 3))
        outputs, covered = canvas.divided(slice(1, 3), 1)
        assert outputs["logits"].shape == (1, 2, 3, 3)
        assert (outputs["logits"] == index).all()
        assert covered is None
        canvas.advance(3)


def test_copies_count_in_the_division():
    canvas = Canvas(Tiling.of((2, 2, 2), (2, 2, 2), 1.0), slice(0, 2), 2)
    for value in (1, 3):
        canvas.add("logits", value * ones(1, 2, 2, 2), [0], (0, 0, 0), 5 * ones(2, 2, 2))
    canvas.weigh((0, 0, 0), 5 * ones(2, 2, 2))
    assert (canvas.divided(slice(0, 2), 2)[0]["logits"] == 2).all()
