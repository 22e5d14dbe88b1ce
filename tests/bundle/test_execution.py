"""engine.json: followed, sealed, and what a fold must hold follows from it."""

from __future__ import annotations

import pytest

from attunet.bundle import Execution, fold_folder, load_bundle, save_execution, save_manifest, save_plan
from attunet.bundle.execution import ENGINE_FILES, write_execution
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
    with pytest.raises(BundleError, match="differs"):
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
    with pytest.raises(ConfigError, match="abacus"):
        load_bundle(root)
