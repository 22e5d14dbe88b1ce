"""The graph computes what the network computes, or is not written."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
import torch

from attunet.errors import TrainingError
from attunet.export import outputs
from attunet.export.openvino import export_openvino


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


def test_a_graph_that_differs_is_not_written(make_plan_of, make_network, tmp_path, monkeypatch):
    plan = make_plan_of(2)
    export_openvino(make_network(plan), plan, tmp_path / "graph.xml")
    before = (tmp_path / "graph.bin").read_bytes()
    monkeypatch.setattr(outputs, "_TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="differs from the network"):
        export_openvino(make_network(plan, seed=1), plan, tmp_path / "graph.xml")
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


def test_nothing_is_reported_over_the_network(make_plan_of, make_network, tmp_path, monkeypatch):
    telemetry = pytest.importorskip("openvino_telemetry.main")

    def send(*_arguments, **_named):
        raise AssertionError("OpenVINO would have sent a report")

    monkeypatch.setattr(telemetry.TelemetrySender, "send", send)
    plan = make_plan_of(2)
    export_openvino(make_network(plan), plan, tmp_path / "graph.xml")
