"""The engine of a fold: the requested device, and its description."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from attunet.bundle import Execution, FoldFiles, load_bundle
from attunet.errors import ConfigError, EngineError
from attunet.inference.engines import factory
from attunet.inference.engines.factory import available_devices, available_engines, cpu_engine, make_engine
from attunet.inference.engines.protocol import window_shape
from attunet.planning.hardware import cpu_precision


def test_the_engine_says_what_computes(tiny_run):
    bundle = load_bundle(tiny_run)
    engine = make_engine(bundle.folds[0], bundle.plan, "cpu")
    assert engine.name == f"openvino cpu {cpu_precision()}"
    assert engine.batch == 2


def test_slices_are_fed_without_their_depth(tiny_slices):
    bundle = load_bundle(tiny_slices)
    engine = make_engine(bundle.folds[0], bundle.plan, "cpu", batch=1)
    assert engine(np.zeros((1, 1, 16, 12), np.float32)).logits.shape == (1, 2, 16, 12)


def test_a_seed_shuffles_the_weights(tiny_run):
    bundle = load_bundle(tiny_run)
    patches = np.random.default_rng(0).normal(size=(1, 1, 16, 12, 8)).astype(np.float32)
    plain, shuffled = (make_engine(bundle.folds[0], bundle.plan, "cpu", shuffle=seed) for seed in (None, 0))
    assert "shuffled" in shuffled.name
    assert np.abs(plain(patches).logits - shuffled(patches).logits).max() > 0.01


def test_a_device_must_be_known_and_there(tiny_run, monkeypatch):
    bundle = load_bundle(tiny_run, [0])
    monkeypatch.setattr(factory, "cuda_available", lambda: False)
    with pytest.raises(ConfigError, match="tpu"):
        make_engine(bundle.folds[0], bundle.plan, "tpu")
    with pytest.raises(EngineError, match="no CUDA") as refused:
        make_engine(bundle.folds[0], bundle.plan, "cuda")
    assert "--device cpu" in refused.value.hint
    assert available_devices() == {"cpu": f"openvino, {cpu_precision()}"}


def test_the_folder_says_what_computes_it(tiny_run):
    bundle = load_bundle(tiny_run)
    fold = FoldFiles(bundle.folds[0].folder, Execution(engine="torch", precision="fp32"))
    patches = np.random.default_rng(0).normal(size=(2, *window_shape(bundle.plan))).astype(np.float32)
    asked = make_engine(fold, bundle.plan, "cpu")
    assert asked.name == "torch cpu float32"
    exact = cpu_engine(fold, bundle.plan, Execution(precision="fp32"))
    assert exact.name == "openvino cpu fp32"
    np.testing.assert_allclose(asked(patches).logits, exact(patches).logits, atol=1e-4)


def test_an_exported_fold_has_no_weights_for_a_gpu(tmp_path, make_plan_of, monkeypatch):
    monkeypatch.setattr(factory, "cuda_available", lambda: True)
    with pytest.raises(EngineError, match="exported for onnxruntime"):
        make_engine(FoldFiles(tmp_path, Execution(engine="onnxruntime")), make_plan_of(), "cuda")


def test_a_requested_engine_must_be_possible(tmp_path, make_plan_of, monkeypatch):
    monkeypatch.setattr(factory, "find_spec", lambda _name: None)
    with pytest.raises(EngineError, match="not installed") as caught:
        cpu_engine(FoldFiles(tmp_path), make_plan_of(), Execution(engine="torch"))
    assert "benchmark --write" in caught.value.hint
    with pytest.raises(EngineError, match="not installed") as caught:
        cpu_engine(FoldFiles(tmp_path), make_plan_of(), Execution(engine="torch program"))
    assert "--format openvino" in caught.value.hint


@pytest.fixture
def fold(tiny_run):
    return load_bundle(tiny_run).folds[0]


def test_a_trained_fold_is_computed_by_all_and_torch_is_the_reference(fold, make_plan_of, monkeypatch):
    def named(_files, _plan, execution):
        return SimpleNamespace(name=f"{execution.engine} {execution.precision}")

    monkeypatch.setattr(factory, "cpu_engine", named)
    monkeypatch.setattr(factory, "cpu_precision", lambda: "bf16")
    expected = ["torch fp32", "torch auto", "openvino fp32", "openvino auto"]
    assert list(available_engines(fold, make_plan_of())) == expected
    monkeypatch.undo()
    monkeypatch.setattr(factory, "cpu_precision", lambda: "fp32")
    assert list(available_engines(fold, make_plan_of())) == ["torch cpu float32", "openvino cpu fp32"]


def test_without_torch_openvino_is_the_reference(fold, make_plan_of, monkeypatch):
    monkeypatch.setattr(factory, "find_spec", lambda _name: None)
    assert next(iter(available_engines(fold, make_plan_of()))) == "openvino cpu fp32"


def test_an_exported_fold_is_computed_by_what_it_holds(fold, make_plan_of, tmp_path):
    for name in ("graph.xml", "graph.bin"):
        shutil.copyfile(fold.folder / name, tmp_path / name)
    assert {found.execution.engine for found in available_engines(FoldFiles(tmp_path), make_plan_of()).values()} == {
        "openvino"
    }


def test_an_empty_fold_cannot_be_computed(make_plan_of, tmp_path):
    with pytest.raises(EngineError, match="no installed engine can run"):
        available_engines(FoldFiles(tmp_path), make_plan_of())
