"""The graph in 8-bit integers beside another: kept where held-out cases lose nothing, within limited time."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from attunet.bundle import fold_cases, load_bundle
from attunet.errors import EngineError
from attunet.export import fold_int8, quantization
from attunet.export.fold_int8 import HeldOutDice, build_int8
from attunet.export.quantization import fold_case_dice, judge_quantization
from attunet.inference.segmenter import Segmenter


@pytest.fixture
def quick(monkeypatch):
    """Quantization that copies the graph."""

    def copy(graph, _patches, target, *, seconds):
        assert seconds > 0
        for suffix in (".bin", ".xml"):
            shutil.copyfile(graph.with_suffix(suffix), target.with_suffix(suffix))

    monkeypatch.setattr(fold_int8, "write_int8_graph", copy)


@pytest.fixture
def build(trained_run, tmp_path):
    """`build(**dice)`: builds the graph of the trained run; the Dice so far is the true one, unless it is given."""
    segmenter = Segmenter.load(trained_run, device="cpu")
    fold = load_bundle(trained_run).folds[0]
    random = np.random.default_rng(0)
    patches = [random.normal(size=(1, 1, *segmenter.plan.patch_size)).astype(np.float32) for _ in range(4)]

    def run(dice=None, *, cases=None, seconds=300.0):
        held_out = HeldOutDice(
            cases=cases or fold_cases(trained_run, 0),
            dice=fold_case_dice(segmenter, trained_run, 0) if dice is None else dice,
        )
        return build_int8(segmenter, fold.graph, patches, held_out, tmp_path, seconds=seconds)

    return run


def names(folder):
    return {entry.name for entry in folder.iterdir()}


def test_an_equal_graph_is_kept_with_its_scores(build, quick, tmp_path):
    int8 = build()
    assert int8.kept
    assert names(tmp_path) == {"int8.xml", "int8.bin"}
    assert (int8.quantization.cases, int8.quantization.patches) == (2, 4)
    assert int8.quantization.dice_before == int8.quantization.dice_after
    assert int8.quantization.low == int8.quantization.high == 0
    assert 0.1 < int8.speedup < 10
    assert int8.compared_with.startswith("openvino cpu")
    assert int8.reason.startswith("kept: Dice ")


def test_a_graph_that_loses_is_rejected_with_its_scores(build, quick, tmp_path):
    int8 = build({"case4": 1.0, "case5": 1.0})
    assert not int8.kept
    assert names(tmp_path) == set()
    assert int8.reason.startswith("rejected: Dice 1.0000 before, 0.")
    assert int8.reason.endswith("a loss below 0.002 and an interval above -0.004 are required")
    assert int8.quantization.kept is False


def test_an_uncertain_change_is_rejected(build, quick):
    true = build().quantization.dice_after
    assert not build({"case4": true - 0.1, "case5": true + 0.05}).kept


def test_one_case_is_too_few(build, quick, tmp_path):
    known = build()
    assert known.kept
    (tmp_path / "int8.xml").unlink()
    one = build({"case4": 0.5})
    assert not one.kept
    assert "one case is too few" in one.reason
    assert not (tmp_path / "int8.xml").exists()


def test_the_audit_ends_when_its_time_is_over(build, quick, monkeypatch):
    times = iter([0.0, 1.0, 6.0, 6.0])
    monkeypatch.setattr(fold_int8.time, "monotonic", lambda: next(times))
    assert "one case is too few" in build(seconds=10.0).reason  # the first took 5 s, so a second one does not fit
    times = iter([0.0, 11.0])
    assert "no held-out case could be audited" in build(seconds=10.0).reason


def test_a_case_that_cannot_be_read_counts_nowhere(build, quick, trained_run, tmp_path):
    first, *others = fold_cases(trained_run, 0)
    lost = replace(first, id="lost", images=(tmp_path / "gone.nii",))
    dice = {case.id: 0.9 for case in (lost, first, *others)}
    assert build(dice, cases=[lost, first, *others]).quantization.cases == 2


def test_a_graph_that_cannot_be_built_is_a_reason_not_an_error(build, monkeypatch, tmp_path):
    def fail(*_arguments, **_named):
        raise EngineError("the graph cannot be quantized: too odd")

    monkeypatch.setattr(fold_int8, "write_int8_graph", fail)
    int8 = build()
    assert (int8.kept, int8.reason) == (False, "not built: the graph cannot be quantized: too odd")
    assert int8.quantization is None
    assert names(tmp_path) == set()


def test_the_interval_of_few_cases_is_that_of_students_t():
    before = {"a": 0.9, "b": 0.8, "c": 0.7, "d": float("nan")}
    after = {"a": 0.901, "b": 0.799, "c": 0.7, "d": 0.5}
    judged = judge_quantization(before, after, 64)
    assert judged.kept
    assert judged.cases == 3
    reach = 4.302653 * 0.001 / np.sqrt(3)
    assert (judged.low, judged.high) == pytest.approx((-reach, reach), abs=1e-6)
    assert quantization.LARGEST_LOSS == 0.002
