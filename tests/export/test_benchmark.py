"""Every engine timed on a model, and a model folder that the fastest computes from then on."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from attunet.bundle import Execution, save_execution
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.errors import DataError
from attunet.export import package
from attunet.export.benchmark import benchmark_model, use_fastest
from attunet.inference.segmenter import Segmenter


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch):
    """A run to be changed; no ONNX graph is made, which takes long."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find_spec(name))
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scans" / "scan.nii.gz"
    path.parent.mkdir()
    write_volume(Volume.from_array(np.random.default_rng(0).normal(size=(24, 20, 12))), path)
    return path


def test_every_engine_takes_its_turns_and_the_reference_is_exact(run, scan):
    totals, steps = [], []
    measured = benchmark_model(run, scan, repeat=2, on_start=totals.append, advance=lambda: steps.append(1))
    assert totals == [2 * len(measured.timings)] == [len(steps)]
    reference = measured.timings[0]
    assert (reference.name, reference.dice, reference.logit_error) == ("torch cpu float32", 1, 0)
    assert {len(timing.seconds) for timing in measured.timings} == {measured.repeat} == {2}
    assert measured.windows == 8
    assert measured.fastest in measured.timings
    assert measured.fastest.name.startswith(measured.execution.engine)


def test_the_chosen_engine_computes_the_model_and_the_rest_of_the_record_stays(run, scan):
    save_execution(Execution(tensors={"image": ("batch", 1)}, reasons={"engine": "as before"}), run)
    measured = benchmark_model(run, scan, repeat=1)
    chosen = replace(measured, fastest=measured.timings[0], execution=Execution(engine="torch", precision="fp32"))
    written = use_fastest(chosen)
    content = json.loads((run / "engine.json").read_text())
    assert content == written.model_dump(mode="json")
    assert (content["engine"], content["precision"], content["tensors"]) == ("torch", "fp32", {"image": ["batch", 1]})
    assert content["reasons"]["engine"] == "as before"
    assert content["reasons"]["benchmark"].startswith("torch cpu float32: 1.00 times as fast as torch cpu float32")
    assert {engine.name for engine in Segmenter.load(run, device="cpu").engines} == {"torch cpu float32"}


def test_an_engine_whose_files_are_missing_has_them_made(run, scan, monkeypatch):
    made = []
    monkeypatch.setattr(package, "select_engine", lambda root, execution: made.append((root, execution.engine)))
    measured = benchmark_model(run, scan, repeat=1)
    use_fastest(replace(measured, execution=Execution(engine="onnxruntime", precision="fp32")))
    assert made == [(run, "onnxruntime")]


def test_a_folder_of_several_images_is_refused(run, scan):
    shutil.copyfile(scan, scan.with_name("other.nii.gz"))
    with pytest.raises(DataError, match="contains 2 images"):
        benchmark_model(run, scan.parent)
