"""8-bit integers: made from training patches, evaluated on validation cases, used only without loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attunet.bundle import fold_folder, load_bundle
from attunet.data.folds import Split
from attunet.export import quantization
from attunet.export.package import export_run
from attunet.export.quantization import calibration_patches
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.segmenter import Segmenter

pytest.importorskip("nncf")


@pytest.fixture(autouse=True)
def few_patches(monkeypatch):
    monkeypatch.setattr(quantization, "CALIBRATION_PATCHES", 8)


def test_patches_are_windows_of_training_cases(trained_run, monkeypatch):
    plan = load_bundle(trained_run).plan
    requested = []
    original = quantization.fold_cases
    monkeypatch.setattr(
        quantization, "fold_cases", lambda *options: requested.append(options[1:]) or original(*options)
    )
    patches = calibration_patches(trained_run, 0, plan, 7)
    assert requested == [(0, "train")]
    assert [patch.shape for patch in patches] == [(1, 1, *plan.patch_size)] * 7
    assert sum(patch.max() > 2 for patch in patches) >= 3  # every second one shows the bright blob


def test_a_patch_larger_than_the_image_is_padded(trained_run):
    plan = load_bundle(trained_run).plan.model_copy(update={"patch_size": (32, 16, 24)})
    assert {patch.shape for patch in calibration_patches(trained_run, 0, plan, 4)} == {(1, 1, 32, 16, 24)}


@pytest.mark.integration
def test_integers_are_used_where_nothing_is_lost(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "LARGEST_LOSS", 0.5)
    steps = []
    made = export_run(trained_run, tmp_path / "out", "openvino", int8=True, advance=lambda: steps.append(1))
    assert made.quantization.kept
    assert (made.quantization.cases, made.quantization.patches, len(steps)) == (2, 8, 5)
    assert made.quantization.dice_before > 0.5
    bundle = load_bundle(made.folder)
    assert bundle.execution.quantization == made.quantization
    assert {entry.name for entry in (made.folder / "fold_0").iterdir()} == {"graph.xml", "graph.bin"}
    engine = Segmenter.load(made.folder, device="cpu").engines[0]
    assert engine.name == "openvino cpu int8"
    patches = np.random.default_rng(0).normal(size=(1, 1, *bundle.plan.patch_size)).astype(np.float32)
    closed = {gate: np.zeros_like(alpha) for gate, alpha in engine(patches).attention.items()}
    assert np.abs(engine(patches, closed).logits - engine(patches).logits).max() > 0.01


@pytest.mark.integration
def test_integers_that_lose_are_refused_and_reported(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "LARGEST_LOSS", -1.0)
    made = export_run(trained_run, tmp_path / "out", "openvino", int8=True)
    assert not made.quantization.kept
    execution = load_bundle(made.folder).execution
    assert execution.reasons["int8"].startswith("not used: mean Dice")
    engine = OpenVINOEngine(made.folder / "fold_0" / "graph.xml", (1, *load_bundle(made.folder).plan.patch_size))
    assert "int8" not in engine.name


@pytest.mark.integration
def test_a_case_that_cannot_be_read_costs_no_export(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "LARGEST_LOSS", 0.5)
    original = quantization.fold_cases

    def damaged(run, fold, part="validation"):
        first, *others = original(run, fold, part)
        return [replace(first, id="lost", images=(tmp_path / "gone.nii",)), first, *others]

    monkeypatch.setattr(quantization, "fold_cases", damaged)
    made = export_run(trained_run, tmp_path / "out", "openvino", int8=True)
    assert made.quantization.cases == 2
    assert made.failed.keys() == {"lost"}


@pytest.mark.integration
def test_a_cascade_is_calibrated_with_its_context_and_keeps_its_localizers(
    make_model, write_blobs, tmp_path, monkeypatch
):
    monkeypatch.setattr(quantization, "LARGEST_LOSS", 2.0)
    run = make_model(3, localizer={}, labels={"background": 0, "blob": 1})
    parts = ("case0", "case1"), ("case2", "case3")
    Split(write_blobs(tmp_path / "blobs"), "fail", *parts).write(fold_folder(run, 0))
    plan = load_bundle(run).plan
    patches = calibration_patches(run, 0, plan, 4)
    assert {patch.shape for patch in patches} == {(1, 2, *plan.patch_size)}
    contexts = np.stack([patch[0, 1] for patch in patches])
    assert 0 <= contexts.min() < contexts.max() <= 1
    made = export_run(run, tmp_path / "out", "openvino", int8=True)
    (member,) = Segmenter.load(made.folder, device="cpu").members
    assert member.engines[0].name == "openvino cpu int8"
    assert not any("int8" in engine.name for engine in member.localizers[0])
