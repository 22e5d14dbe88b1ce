"""Engines: the same numbers from OpenVINO and torch, and the device that was asked for."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from attunet.bundle import load_bundle
from attunet.errors import BundleError, ConfigError, EngineError
from attunet.inference import engines
from attunet.inference.engines import OpenVINOEngine, available_devices, cpu_precision, make_engine
from attunet.inference.torch_engine import TorchEngine


@pytest.fixture(params=["tiny_run", "tiny_slices"])
def bundle(request):
    return load_bundle(request.getfixturevalue(request.param))


def patches_of(bundle, count):
    dims = bundle.plan.network.spatial_dims
    return np.random.default_rng(0).normal(size=(count, 1, *bundle.plan.patch_size[:dims])).astype(np.float32)


def shape_of(bundle):
    return (bundle.plan.network.in_channels, *bundle.plan.patch_size[: bundle.plan.network.spatial_dims])


@pytest.mark.parametrize("count", [1, 3])
def test_openvino_and_torch_agree(bundle, count):
    patches = patches_of(bundle, count)
    graph = OpenVINOEngine(bundle.folds[0].graph, shape_of(bundle), batch=3, precision="fp32")(patches)
    reference = TorchEngine(bundle.folds[0].weights, bundle.plan.network, device="cpu")(patches)
    np.testing.assert_allclose(graph.logits, reference.logits, atol=1e-4)
    assert graph.attention.keys() == reference.attention.keys() == {"level2"}
    np.testing.assert_allclose(graph.attention["level2"], reference.attention["level2"], atol=1e-4)
    assert 0 <= graph.attention["level2"].min() < graph.attention["level2"].max() <= 1


def test_a_short_batch_computes_as_a_full_one(bundle):
    engine = OpenVINOEngine(bundle.folds[0].graph, shape_of(bundle), batch=4, precision="fp32")
    patches = patches_of(bundle, 4)
    np.testing.assert_allclose(engine(patches[:1]).logits, engine(patches).logits[:1], atol=1e-5)


def test_the_engine_says_what_computes(bundle):
    engine = make_engine(bundle.folds[0], bundle.plan, "cpu")
    assert engine.name == f"openvino cpu {cpu_precision()}"
    assert engine.batch == 2


def test_a_graph_that_is_none_is_refused(tmp_path):
    (tmp_path / "graph.xml").write_text("<net>")
    with pytest.raises(BundleError, match="cannot be read by OpenVINO"):
        OpenVINOEngine(tmp_path / "graph.xml", (1, 8, 8))


def test_a_device_must_be_known_and_there(tiny_run, monkeypatch):
    bundle = load_bundle(tiny_run, [0])
    monkeypatch.setattr(engines, "_cuda_available", lambda: False)
    with pytest.raises(ConfigError, match="tpu"):
        make_engine(bundle.folds[0], bundle.plan, "tpu")
    with pytest.raises(EngineError, match="no CUDA") as refused:
        make_engine(bundle.folds[0], bundle.plan, "cuda")
    assert "--device cpu" in refused.value.hint
    assert available_devices() == {"cpu": f"openvino, {cpu_precision()}"}


INTERRUPTED = """
import signal, sys
from pathlib import Path
from attunet.inference.engines import OpenVINOEngine

engines = [OpenVINOEngine(Path(sys.argv[1]), (1, 16, 12, 8)) for _ in range(2)]
while engines:
    engines.pop(0)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


def test_an_interrupt_after_several_engines_is_heard(tiny_run):
    graph = str(tiny_run / "fold_0" / "graph.xml")
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, graph], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n")
