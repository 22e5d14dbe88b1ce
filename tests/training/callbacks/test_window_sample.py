"""Samples of the windows of a large case, and what they stand for."""

import numpy as np
import pytest

from attunet.data.preprocess import IGNORED
from attunet.inference.windows.tiling import Tiling
from attunet.training.callbacks.window_sample import SAMPLED_WINDOWS, window_sample

PATCH = (8, 8, 8)


def label_of(shape, *filled, value=1):
    label = np.zeros(shape, np.uint8)
    for box in filled:
        label[box] = value
    return label


@pytest.mark.parametrize("edge", [16, 80], ids=["few windows with a label", "many windows with a label"])
def test_windows_with_and_without_a_label_stand_for_all_of_their_kind(edge):
    label = label_of((96, 96, 96), np.s_[:edge, :edge, :edge])
    tiling = Tiling.of(label.shape, PATCH, 1.0)
    shown = {start for start in tiling if label[tiling.box(start)].any()}
    sample = window_sample(label, PATCH)
    assert len(sample) == SAMPLED_WINDOWS
    assert sum(weight for start, weight in sample.items() if start in shown) == pytest.approx(len(shown))
    assert sum(sample.values()) == pytest.approx(len(tiling))
    assert sum(start in shown for start in sample) == min(len(shown), SAMPLED_WINDOWS // 2)


def test_the_sample_is_full_where_windows_of_one_kind_are_few_or_none():
    assert len(window_sample(label_of((96, 96, 96)), PATCH)) == SAMPLED_WINDOWS
    assert len(window_sample(label_of((96, 96, 96), np.s_[:]), PATCH)) == SAMPLED_WINDOWS


def test_voxels_to_ignore_are_no_label():
    label = label_of((96, 96, 96), np.s_[:8], value=IGNORED)
    assert window_sample(label, PATCH) == window_sample(label_of((96, 96, 96)), PATCH)


def test_all_windows_are_taken_where_there_are_few():
    assert set(window_sample(label_of((16, 16, 16)), PATCH).values()) == {1.0}
    assert len(window_sample(label_of((16, 16, 16)), PATCH)) == 8
