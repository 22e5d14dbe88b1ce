"""air.json: written, sealed, read; refused where the manifest does not know it."""

import pytest
from pydantic import ValidationError

from attunet.bundle import FoldFiles, load_bundle, save_manifest
from attunet.bundle.air import Air, common_air_level, load_air, write_air
from attunet.errors import BundleError

AIR = Air(used=True, level=0.25, cases=4, windows=200, skipped=60, lost=0)


@pytest.fixture
def fold(tiny_run, tmp_path):
    import shutil

    return FoldFiles(shutil.copytree(tiny_run, tmp_path / "run") / "fold_0")


def test_it_comes_back_once_it_is_sealed(fold):
    assert load_air(fold) is None
    write_air(AIR, fold)
    with pytest.raises(BundleError, match="manifest"):
        load_air(fold)
    save_manifest(fold.folder.parent)
    assert load_air(fold) == AIR


def test_an_altered_one_is_refused_with_the_model(fold):
    write_air(AIR, fold)
    save_manifest(fold.folder.parent)
    write_air(AIR.model_copy(update={"level": 9.0}), fold)
    with pytest.raises(BundleError, match=r"air\.json differs"):
        load_bundle(fold.folder.parent)


def test_a_level_below_zero_is_none():
    with pytest.raises(ValidationError):
        Air(used=True, level=-1.0, cases=1, windows=1, skipped=1, lost=0)


def test_all_folds_must_agree(tmp_path):
    folds = [FoldFiles(tmp_path / f"fold_{index}") for index in range(2)]
    for fold, used, level in zip(folds, (True, True), (0.5, 0.3), strict=True):
        write_air(Air(used=used, level=level, cases=3, windows=10, skipped=4, lost=0), fold)
        for name in ("weights.safetensors", "graph.xml", "graph.bin"):
            (fold.folder / name).write_bytes(b"")
    with pytest.raises(BundleError, match="manifest"):
        common_air_level(folds)
    save_manifest(tmp_path)
    assert common_air_level(folds) == 0.3
    assert common_air_level([*folds, FoldFiles(tmp_path / "fold_2")]) is None
    write_air(Air(used=False, level=0.3, cases=3, windows=10, skipped=4, lost=7), folds[1])
    save_manifest(tmp_path)
    assert common_air_level(folds) is None
    assert common_air_level(folds[:1]) == 0.5
