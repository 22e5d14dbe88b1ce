"""Windows of air: left out below the level, never one with content, never all."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.bundle import FoldFiles, save_manifest
from attunet.bundle.air import Air, write_air
from attunet.errors import BundleError
from attunet.inference.windows.air import air_level, height_of_content, without_air
from attunet.inference.windows.tiling import Tiling

TILING = Tiling.of((40, 12, 12), (8, 12, 12), 0.5)


def image(height=5.0, noise=0.1):
    array = np.random.default_rng(0).uniform(-1, -1 + noise, (1, 40, 12, 12)).astype(np.float32)
    array[0, 17, 3, 5] = height - 1  # a single voxel, between those that are sampled
    return array


def test_a_window_with_a_single_voxel_of_content_is_run():
    kept = without_air(TILING, image(), 0.2)
    assert [start[0] for start in kept] == [12, 16]
    assert without_air(TILING, image(), None) == TILING
    assert len(without_air(TILING, image(), 0.01)) == len(TILING)


def test_any_channel_may_show_content():
    both = np.concatenate([image(), np.flip(image(), 1)])  # the other voxel lies at 22
    assert [start[0] for start in without_air(TILING, both, 0.2)] == [12, 16, 20]


def test_of_nothing_but_air_one_window_is_run():
    assert len(without_air(TILING, image(height=0.05), 0.2)) == 1


def test_the_height_of_content_is_the_least_of_windows_with_a_label():
    label = np.zeros((40, 12, 12), np.uint8)
    assert height_of_content(image(), label, TILING) == np.inf
    label[17, 3, 5] = 2
    assert height_of_content(image(), label, TILING) == pytest.approx(5, abs=0.1)
    label[30, 0, 0] = 1
    assert height_of_content(image(), label, TILING) == pytest.approx(0.1, abs=0.02)


def test_all_folds_must_agree(tmp_path):
    folds = [FoldFiles(tmp_path / f"fold_{index}") for index in range(2)]
    for fold, used, level in zip(folds, (True, True), (0.5, 0.3), strict=True):
        write_air(Air(used=used, level=level, cases=3, windows=10, skipped=4, lost=0), fold)
        for name in ("weights.safetensors", "graph.xml", "graph.bin"):
            (fold.folder / name).write_bytes(b"")
    with pytest.raises(BundleError, match="manifest"):
        air_level(folds)
    save_manifest(tmp_path)
    assert air_level(folds) == 0.3
    assert air_level([*folds, FoldFiles(tmp_path / "fold_2")]) is None
    write_air(Air(used=False, level=0.3, cases=3, windows=10, skipped=4, lost=7), folds[1])
    save_manifest(tmp_path)
    assert air_level(folds) is None
    assert air_level(folds[:1]) == 0.5
