"""`attunet benchmark`: a table of engines, and a winner that predictions use."""

from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import pytest

from attunet.cli.benchmark import benchmark
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.errors import DataError
from attunet.export import benchmark as export_benchmark
from attunet.inference.segmenter import Segmenter


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch):
    """A run to be changed, with a scan beside it; no ONNX graph is made, which takes long."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find_spec(name))
    write_volume(Volume.from_array(np.random.default_rng(0).normal(size=(24, 20, 12))), tmp_path / "scan.nii.gz")
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_engines_are_listed_and_nothing_is_changed(run, invoke):
    before = (run / "manifest.json").read_bytes()
    done = invoke(benchmark, "-m", run, "-i", run.parent / "scan.nii.gz", "--repeat", 2)
    assert done.exit_code == 0
    for name in ("torch cpu float32", "openvino cpu fp32", "fastest"):
        assert name in done.stdout
    assert "8 windows" in done.stderr
    assert (run / "manifest.json").read_bytes() == before
    assert not (run / "engine.json").exists()


def test_the_winner_is_written_and_used(run, invoke, monkeypatch):
    monkeypatch.setattr(
        export_benchmark, "fastest", lambda measured: next(one for one in measured if "torch" in one.name)
    )
    done = invoke(benchmark, "-m", run, "-i", run.parent / "scan.nii.gz", "--repeat", 1, "--write")
    assert done.exit_code == 0
    content = json.loads((run / "engine.json").read_text())
    assert (content["engine"], content["precision"]) == ("torch", "fp32")
    assert "times as fast" in content["reasons"]["benchmark"]
    assert {engine.name for engine in Segmenter.load(run, device="cpu").engines} == {"torch cpu float32"}


def test_one_image_is_required(run, invoke):
    shutil.copyfile(run.parent / "scan.nii.gz", run.parent / "other.nii.gz")
    done = invoke(benchmark, "-m", run, "-i", run.parent)
    assert isinstance(done.exception, DataError)
    assert "contains 2 images" in done.exception.message
