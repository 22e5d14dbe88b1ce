"""engine.json: used, protected by checksums, and the files that a fold needs follow from it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from attunet.bundle import Execution, fold_folder, load_bundle, save_execution, save_manifest, save_plan
from attunet.bundle.execution import ENGINE_FILES, Air, common_air_level, load_air, write_air, write_execution
from attunet.bundle.manifest import seal
from attunet.errors import BundleError, ConfigError


@pytest.fixture(params=sorted(ENGINE_FILES))
def exported(request, tmp_path, make_plan_of):
    """A folder of one fold that holds what one engine needs, not sealed yet."""
    save_plan(make_plan_of(), tmp_path)
    fold_folder(tmp_path, 0).mkdir()
    for name in ENGINE_FILES[request.param]:
        (fold_folder(tmp_path, 0) / name).write_bytes(name.encode())
    return tmp_path, Execution(engine=request.param)


def test_a_fold_needs_only_what_its_engine_reads(exported):
    root, execution = exported
    save_execution(execution, root)
    bundle = load_bundle(root)
    assert bundle.execution == bundle.folds[0].execution == execution
    (fold_folder(root, 0) / ENGINE_FILES[execution.engine][0]).write_bytes(b"changed")
    with pytest.raises(BundleError, match="was changed"):
        load_bundle(root)


def test_without_it_a_fold_is_a_trained_one(exported):
    root, _ = exported
    save_manifest(root)
    with pytest.raises(BundleError, match="no finished fold"):
        load_bundle(root)


def test_a_file_that_the_manifest_does_not_name_is_refused(tiny_run, tmp_path):
    import shutil

    root = shutil.copytree(tiny_run, tmp_path / "run")
    assert load_bundle(root).execution == Execution()
    write_execution(Execution(precision="fp32"), root)
    with pytest.raises(BundleError, match="not in the manifest"):
        load_bundle(root)
    save_execution(Execution(precision="fp32"), root)
    assert load_bundle(root).folds[1].execution.precision == "fp32"


def test_an_unknown_engine_is_named(exported):
    root, execution = exported
    save_execution(execution, root)
    (root / "engine.json").write_text('{"engine": "abacus"}')
    with pytest.raises(BundleError, match="was changed"):
        load_bundle(root)
    seal(root, [root / "plan.json", root / "engine.json"])
    with pytest.raises(ConfigError, match="abacus"):
        load_bundle(root)


AIR = Air(used=True, level=0.25, cases=4, windows=200, skipped=60, lost=0)


@pytest.fixture
def fold(tiny_run, tmp_path):
    import shutil

    return shutil.copytree(tiny_run, tmp_path / "run") / "fold_0"


def test_it_comes_back_once_it_is_sealed(fold):
    assert load_air(fold) is None
    write_air(AIR, fold)
    with pytest.raises(BundleError, match="manifest"):
        load_air(fold)
    save_manifest(fold.parent)
    assert load_air(fold) == AIR


def test_an_altered_one_is_refused_with_the_model(fold):
    write_air(AIR, fold)
    save_manifest(fold.parent)
    write_air(AIR.model_copy(update={"level": 9.0}), fold)
    with pytest.raises(BundleError, match=r"air\.json was changed"):
        load_bundle(fold.parent)


def test_a_level_below_zero_is_none():
    with pytest.raises(ValidationError):
        Air(used=True, level=-1.0, cases=1, windows=1, skipped=1, lost=0)


def test_all_folds_must_agree():
    first, second = (Air(used=True, level=level, cases=3, windows=10, skipped=4, lost=0) for level in (0.5, 0.3))
    assert common_air_level([first, second]) == 0.3
    assert common_air_level([first]) == 0.5
    assert common_air_level([first, None]) is None
    assert common_air_level([first, second.model_copy(update={"used": False})]) is None
