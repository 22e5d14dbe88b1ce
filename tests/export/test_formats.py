"""Every format computes what the network computes, or is not written."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
import torch

from attunet.bundle import load_bundle
from attunet.bundle.execution import ENGINE_FILES
from attunet.errors import EngineError, TrainingError
from attunet.export import formats
from attunet.export.formats import FORMATS, export_onnx, export_openvino
from attunet.export.package import load_network


@pytest.mark.parametrize(("dims", "gate"), [(2, "additive"), (3, "grid"), (3, None)])
def test_the_graph_names_its_outputs_and_takes_any_batch(dims, gate, make_plan_of, make_network, tmp_path):
    plan = make_plan_of(dims, gate=gate)
    network = make_network(plan)
    assert export_openvino(network, plan, tmp_path / "graph.xml") < 1e-4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["graph.bin", "graph.xml"]
    compiled = ov.Core().compile_model(tmp_path / "graph.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    patches = np.random.default_rng(0).normal(size=(3, 1, *plan.patch_size[:dims])).astype(np.float32)
    results = compiled(patches)
    with torch.no_grad():
        expected = network(torch.from_numpy(patches), detailed=True)
    names = {name for port in compiled.outputs for name in port.names}
    assert names == {"logits", *expected.attention}
    np.testing.assert_allclose(results["logits"], expected.logits, atol=1e-4)
    for name, alpha in expected.attention.items():
        np.testing.assert_allclose(results[name], alpha, atol=1e-4)


def test_a_graph_that_differs_is_not_written(make_plan_of, make_network, tmp_path):
    plan = make_plan_of(2)
    export_openvino(make_network(plan), plan, tmp_path / "graph.xml")
    before = (tmp_path / "graph.bin").read_bytes()
    with pytest.raises(TrainingError, match="differs from the network"):
        export_openvino(make_network(plan, seed=1), plan, tmp_path / "graph.xml", tolerance=-1.0)
    assert (tmp_path / "graph.bin").read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["graph.bin", "graph.xml"]


def test_weights_of_nan_are_noticed(make_plan_of, make_network, tmp_path):
    plan = make_plan_of(2)
    network = make_network(plan)
    with torch.no_grad():
        network.heads["level1"].weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="nan"):
        export_openvino(network, plan, tmp_path / "graph.xml")
    assert not list(tmp_path.iterdir())


def test_the_network_is_left_in_evaluation_mode_on_the_cpu(make_plan_of, make_network, tmp_path):
    plan = make_plan_of(2)
    network = make_network(plan).train()
    export_openvino(network, plan, tmp_path / "graph.xml")
    assert not network.training


@pytest.mark.integration
def test_onnx_takes_any_batch_and_size_and_computes_what_torch_computes(exported, trained_run):
    runtime = pytest.importorskip("onnxruntime")
    made = exported("onnx")
    assert made.differences["fold_0"] < 1e-4
    assert [file.name for file in (made.folder / "fold_0").iterdir()] == ["model.onnx"]
    session = runtime.InferenceSession(made.folder / "fold_0" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["image"]
    names = [entry.name for entry in session.get_outputs()]
    assert names == ["logits", "level2"]
    image = torch.randn(3, 1, 24, 8, 16)
    bundle = load_bundle(trained_run)
    with torch.no_grad():
        expected = load_network(bundle.folds[0], bundle.plan)(image, detailed=True)
    logits, alpha = session.run(names, {"image": image.numpy()})
    np.testing.assert_allclose(logits, expected.logits, atol=1e-3)
    np.testing.assert_allclose(alpha, expected.attention["level2"], atol=1e-3)


def test_an_absent_package_is_named(monkeypatch, make_plan_of, make_network, tmp_path):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(EngineError, match="onnxscript") as caught:
        export_onnx(make_network(make_plan_of(2)), make_plan_of(2), tmp_path / "model.onnx")
    assert "attunet[onnx]" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_every_format_writes_a_file_that_its_engine_needs():
    assert all(format.file in ENGINE_FILES[format.engine] for format in FORMATS.values())
