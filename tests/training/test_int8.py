"""8-bit integers at the end of a training: when, for how long, and what the run says of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from attunet.bundle import load_bundle
from attunet.bundle.execution import Int8, load_int8
from attunet.export.fold_int8 import HeldOutDice
from attunet.inference.engines.precision import int8_choice
from attunet.inference.segmenter import Segmenter
from attunet.planning.hardware import cpu_precision
from attunet.training import int8 as module
from attunet.training.int8 import Int8Training, int8_seconds, without_int8_time
from attunet.training.run_folder import FoldPaths


@pytest.fixture(autouse=True)
def able(monkeypatch):
    """A machine that could build them."""
    monkeypatch.setattr(module, "cpu_int8", lambda: "avx512_vnni")
    monkeypatch.setattr(module, "has_nncf", lambda: True)


@pytest.mark.integration
def test_a_training_ends_with_an_audited_graph(train, tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    monkeypatch.setattr(module, "int8_seconds", lambda _budget: 300.0)
    monkeypatch.setattr(module, "CALIBRATION_PATCHES", 4)
    train()
    fold = load_bundle(tmp_path / "run").folds[0]
    int8 = load_int8(fold.folder, fold.sums)
    assert (int8.quantization.cases, int8.quantization.patches) == (2, 4)
    assert int8.compared_with == f"openvino cpu {cpu_precision()}"
    assert int8.kept == fold.has(fold.folder / "int8.xml") == int8.reason.startswith("kept: ")


@pytest.fixture
def build(trained, blobs, stored, tmp_path, tiny_config, monkeypatch):
    """Runs the end of a training in a copy of the trained run; the graph is only copied."""
    run = shutil.copytree(trained, tmp_path / "run")
    given = []

    def copy(_segmenter, graph, patches, held_out, target, *, seconds, advance):
        given.append((patches, held_out, seconds))
        for suffix in (".bin", ".xml"):
            shutil.copyfile(graph.with_suffix(suffix), target / f"int8{suffix}")
        return Int8(kept=True, reason="kept", speedup=2.0)

    monkeypatch.setattr(module, "build_int8", copy)

    def work(*, accelerator="cpu", trained_seconds=0.0, cases=blobs.cases[2:], **changes):
        training = Int8Training(
            train=stored[:2], config=tiny_config(**changes), accelerator=accelerator, trained_seconds=trained_seconds
        )
        paths = FoldPaths(run / "fold_0")
        held_out = HeldOutDice(cases=cases, dice={})
        return training.build(Segmenter.load(run, device="cpu"), run, paths, held_out, lambda: None)

    return run, given, work


@pytest.mark.parametrize(("budget", "seconds"), [(60, 0), (599, 0), (600, 30), (900, 45), (3600, 180), (36000, 300)])
def test_a_twentieth_of_a_long_training_is_set_aside(budget, seconds):
    assert int8_seconds(budget) == pytest.approx(seconds)


def test_the_budget_of_the_training_includes_it(tiny_config, monkeypatch):
    timed = tiny_config(max_time=900.0)
    assert without_int8_time(timed, "cpu").max_time == 855.0
    assert without_int8_time(timed, "cuda") is timed
    for unchanged in (tiny_config(max_time=60.0), tiny_config(), tiny_config(max_time=900.0, int8=False)):
        assert without_int8_time(unchanged, "cpu") is unchanged
    monkeypatch.setattr(module, "has_nncf", lambda: False)
    assert without_int8_time(timed, "cpu") is timed


def test_the_graph_becomes_part_of_the_model(build):
    run, given, work = build
    assert work(max_time=900.0).kept
    fold = load_bundle(run).folds[0]
    assert all(fold.has(fold.folder / name) for name in ("int8.xml", "int8.bin", "int8.json"))
    assert load_int8(fold.folder, fold.sums).speedup == 2.0
    ((patches, _, seconds),) = given
    assert seconds == 45.0
    assert len(patches) == 64
    assert {patch.shape for patch in patches} == {(1, 1, 16, 16, 8)}
    assert sum(patch.max() > 2 for patch in patches) >= 30  # half are centred on the bright ball


def test_calibration_patches_are_those_of_the_images(build, stored):
    _, given, work = build
    work(max_time=900.0)
    images = [case.image()[:] for case in stored[:2]]
    corners = {float(patch[0, 0, 0, 0, 0]) for patch in given[0][0]}
    assert all(any((image == np.float32(corner)).any() for image in images) for corner in corners)


def test_without_a_clock_the_training_itself_is_the_measure(build):
    _, given, work = build
    work(trained_seconds=1200.0)
    assert given[0][2] == 60.0


@pytest.mark.parametrize(
    ("changes", "missing", "reason"),
    [
        ({"max_time": 60.0}, {}, "a twentieth of the training at most, which needs 10 minutes"),
        ({"trained_seconds": 60.0}, {}, "a twentieth of the training at most, which needs 10 minutes"),
        ({"max_time": 900.0, "int8": False}, {}, "the recipe turns it off"),
        ({"max_time": 900.0, "cases": ()}, {}, "validated on its own training cases"),
        ({"max_time": 900.0, "accelerator": "cuda"}, {}, "the training ran on a GPU"),
        ({"max_time": 900.0}, {"has_nncf": False}, 'needs nncf, which is not installed (pip install "attunet[int8]")'),
        ({"max_time": 900.0}, {"cpu_int8": ""}, "neither VNNI nor AMX"),
    ],
)
def test_what_is_not_built_has_a_reason_and_costs_nothing(build, monkeypatch, changes, missing, reason):
    run, given, work = build
    for name, value in missing.items():
        monkeypatch.setattr(module, name, lambda value=value: value)
    assert not work(**changes).kept
    assert given == []
    fold = load_bundle(run).folds[0]
    assert not fold.has(fold.folder / "int8.xml")
    assert reason in int8_choice(load_bundle(run).folds).reason
    assert reason in json.loads((fold.folder / "int8.json").read_text())["reason"]
