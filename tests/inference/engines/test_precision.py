"""The precision of a prediction: 8-bit integers where all that they need is there, unless another one is requested."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from attunet.bundle import Execution, FoldFiles, Quantization, load_bundle, save_execution, save_manifest
from attunet.bundle.execution import Int8, write_int8
from attunet.errors import BundleError, ConfigError, EngineError
from attunet.inference.engines import factory, precision
from attunet.inference.engines.factory import available_engines, make_engine
from attunet.inference.engines.precision import choose_precision, int8_choice
from attunet.inference.info import model_facts
from attunet.inference.segmenter import Segmenter

AUDIT = Quantization(kept=True, dice_before=0.9, dice_after=0.8995, cases=12, patches=64, low=-0.001, high=0.0002)
KEPT = Int8(kept=True, reason="kept", quantization=AUDIT, speedup=1.6, compared_with="openvino cpu bf16")


@pytest.fixture(autouse=True)
def native(monkeypatch):
    monkeypatch.setattr(precision, "cpu_int8", lambda: "avx512_vnni")


@pytest.fixture
def with_int8(tiny_run, tmp_path):
    """`with_int8(int8.json of fold 0, of fold 1)`: the run with second graphs, which have the other fold's weights."""

    def make(*facts, execution=None):
        run = shutil.copytree(tiny_run, tmp_path / "run")
        for index, int8 in enumerate(facts):
            if int8 is not None:
                write_int8(int8, run / f"fold_{index}")
            if int8 is not None and int8.kept:
                for end in ("xml", "bin"):
                    shutil.copyfile(run / f"fold_{1 - index}" / f"graph.{end}", run / f"fold_{index}" / f"int8.{end}")
        if execution is not None:
            save_execution(execution, run)
        save_manifest(run)
        return run

    return make


def engines(run, **how):
    return [engine for member in Segmenter.load(run, device="cpu", **how).members for engine in member.engines]


def logits(engine):
    return engine(np.random.default_rng(0).normal(size=(1, 1, 16, 12, 8)).astype(np.float32)).logits


def test_8_bit_integers_are_used_where_every_fold_has_them_and_they_are_faster(with_int8):
    run = with_int8(KEPT, KEPT)
    plain = [logits(engine) for engine in engines(run, precision="fp32")]
    chosen = [logits(engine) for engine in engines(run)]
    requested = [logits(engine) for engine in engines(run, precision="int8")]
    for index in (0, 1):
        assert np.abs(chosen[index] - plain[1 - index]).max() < 0.1 * np.abs(plain[index] - plain[1 - index]).max()
        np.testing.assert_array_equal(chosen[index], requested[index])
    assert model_facts(run)["computed by"] == "openvino, 8-bit integers"
    assert model_facts(run)["8-bit integers"] == (
        "used: 1.60 and 1.60 times as fast as openvino cpu bf16 where it was trained, Dice 0.9000 before, 0.8995 after "
        "(24 held-out cases)"
    )


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (None, "fold_1: it was trained before they were tried"),
        (Int8(kept=False, reason="rejected: Dice 0.9 before, 0.8 after"), "fold_1: rejected: Dice 0.9 before, 0.8"),
        (KEPT.model_copy(update={"speedup": 0.5}), "not faster"),
    ],
)
def test_one_fold_without_them_keeps_all_from_using_them(with_int8, other, reason):
    run = with_int8(KEPT, other)
    choice = int8_choice(load_bundle(run).folds)
    assert not choice.used
    assert reason in choice.reason
    assert choice.reason == model_facts(run)["8-bit integers"]
    assert model_facts(run)["computed by"] == "openvino, bf16 where the CPU has it"
    assert choose_precision(load_bundle(run).folds) == "auto"


def test_a_cpu_that_does_not_compute_them_natively_uses_the_other_graph(with_int8, monkeypatch):
    folds = load_bundle(with_int8(KEPT, KEPT)).folds
    monkeypatch.setattr(precision, "cpu_int8", lambda: "")
    assert choose_precision(folds) == "auto"
    assert "neither VNNI nor AMX" in int8_choice(folds).reason
    assert choose_precision(folds, precision="int8") == "int8"


def test_the_engine_of_the_folder_comes_first(with_int8):
    run = with_int8(KEPT, KEPT, execution=Execution(precision="fp32"))
    assert {engine.name for engine in engines(run)} == {"openvino cpu fp32"}
    assert choose_precision(load_bundle(run).folds, "cuda") == "auto"
    assert "engine.json selects fp32" in model_facts(run)["8-bit integers"]


def test_a_model_of_an_earlier_version_has_none(tiny_run):
    assert "8-bit integers" not in model_facts(tiny_run)
    folds = load_bundle(tiny_run).folds
    assert choose_precision(folds) == "auto"
    with pytest.raises(EngineError, match=r"fold_0 of .* has no graph in 8-bit integers") as refused:
        choose_precision(folds, precision="int8")
    assert "export" in refused.value.hint


def test_what_cannot_be_computed_is_refused(with_int8, monkeypatch):
    run = with_int8(KEPT, Int8(kept=False, reason="rejected: too coarse"))
    folds = load_bundle(run).folds
    with pytest.raises(EngineError, match=r"fold_1 .*: rejected: too coarse"):
        choose_precision(folds, precision="int8")
    with pytest.raises(EngineError, match="on a CPU only"):
        choose_precision(folds, "cuda", "int8")
    with pytest.raises(ConfigError, match="fp64"):
        choose_precision(folds, precision="fp64")
    monkeypatch.setattr(precision, "cpu_precision", lambda: "fp32")
    with pytest.raises(EngineError, match="bf16"):
        choose_precision(folds, precision="bf16")


def test_an_engine_without_that_precision_says_which_it_has(tiny_run):
    bundle = load_bundle(tiny_run)
    fold = FoldFiles(bundle.folds[0].folder, Execution(engine="onnxruntime"))
    with pytest.raises(EngineError, match="onnxruntime computes in fp32, not in bf16"):
        make_engine(fold, bundle.plan, "cpu", precision="bf16")


def test_an_exported_folder_in_8_bit_integers_has_no_other(tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    save_execution(Execution(quantization=AUDIT), run)
    folds = load_bundle(run).folds
    assert choose_precision(folds, precision="int8") == "auto"
    with pytest.raises(EngineError, match="exported in 8-bit integers, not in fp32"):
        choose_precision(folds, precision="fp32")


@pytest.mark.parametrize("name", ["int8.xml", "int8.bin", "int8.json"])
def test_an_altered_or_added_graph_is_refused(with_int8, name):
    run = with_int8(KEPT, KEPT)
    file = run / "fold_0" / name
    kept = file.read_bytes()
    file.write_bytes(kept + b" ")
    with pytest.raises(BundleError, match="was changed"):
        load_bundle(run)
    file.unlink()
    with pytest.raises(BundleError, match="is missing"):
        load_bundle(run)


def test_a_graph_that_the_manifest_does_not_name_is_not_used(with_int8, tmp_path):
    run = with_int8(None, None)
    write_int8(KEPT, run / "fold_0")
    with pytest.raises(BundleError, match=r"int8\.json is not in the manifest"):
        Segmenter.load(run, device="cpu")
    (run / "fold_0" / "int8.json").unlink()
    for end in ("xml", "bin"):
        shutil.copyfile(run / "fold_1" / f"graph.{end}", run / "fold_0" / f"int8.{end}")
    with pytest.raises(EngineError, match="no graph in 8-bit integers"):
        Segmenter.load(run, folds=[0], device="cpu", precision="int8")


def test_a_gpu_is_preferred_to_8_bit_integers_that_were_not_requested(with_int8, monkeypatch):
    folds = load_bundle(with_int8(KEPT, KEPT)).folds
    monkeypatch.setattr(precision, "cuda_available", lambda: True)
    assert [choose_precision(folds, device) for device in ("auto", "cuda", "cpu")] == ["auto", "auto", "int8"]
    assert choose_precision(folds, "auto", "int8") == "int8"


def test_a_benchmark_times_the_graph_in_8_bit_integers_and_what_it_writes_is_used(with_int8, monkeypatch):
    run = with_int8(KEPT, KEPT.model_copy(update={"speedup": 0.5}))
    bundle = load_bundle(run)
    monkeypatch.setattr(factory, "cpu_precision", lambda: "bf16")
    monkeypatch.setattr(
        factory, "cpu_engine", lambda _fold, _plan, how: SimpleNamespace(name=f"{how.engine} {how.precision}")
    )
    timed = list(available_engines(bundle.folds[0], bundle.plan))
    assert timed == ["torch fp32", "torch auto", "openvino fp32", "openvino bf16", "openvino int8"]
    save_execution(Execution(precision="int8"), run)
    assert choose_precision(load_bundle(run).folds) == "int8"
    save_execution(Execution(precision="bf16"), run)
    assert choose_precision(load_bundle(run).folds) == "auto"
    save_execution(Execution(precision="int8"), run)
    monkeypatch.setattr(precision, "cpu_int8", lambda: "")
    assert choose_precision(load_bundle(run).folds) == "bf16"
