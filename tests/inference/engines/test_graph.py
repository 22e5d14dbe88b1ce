"""Graphs changed in memory: replaced attention, shuffled weights."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13

from attunet.errors import EngineError
from attunet.export.formats import export_openvino
from attunet.inference.engines.graph import accept_attention, gate_outputs, input_names, shuffle_weights


@pytest.fixture(scope="module")
def graph(make_plan_of, make_network, tmp_path_factory):
    """A function that reads a graph of two maps at level 2 anew, for a patch of 13 voxels along the first axis."""
    plan = make_plan_of(2, gate="multi").model_copy(update={"patch_size": (13, 12, 1)})
    network = make_network(plan)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):  # zeros would not be in the graph
            parameter.data.normal_()
    path = tmp_path_factory.mktemp("graph") / "graph.xml"
    export_openvino(network, plan, path)

    def read():
        model = ov.Core().read_model(path)
        model.reshape([1, 1, 13, 12])
        return model

    return read


def run(model, **inputs):
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled({0: np.random.default_rng(0).normal(size=(1, 1, 13, 12)).astype(np.float32), **inputs})
    return {name: results[name].copy() for name in ("logits", "level2")}


def test_gates_are_outputs_by_name(graph):
    assert {gate: tuple(port.get_shape()) for gate, port in gate_outputs(graph()).items()} == {"level2": (1, 2, 7, 6)}


def test_a_gate_computes_its_coefficients_unless_they_are_given(graph):
    model = graph()
    assert accept_attention(model) == {"level2": (2, 8, 6)}  # 13 voxels are padded to 16
    condition, names = input_names("level2", 2)
    assert {name for port in model.inputs[1:] for name in port.get_names()} == {condition, *names}
    maps = {name: np.full((1, 1, 8, 6), level, np.float32) for name, level in zip(names, (0.25, 0.5), strict=True)}
    untold, told = (run(model, **maps, **{condition: np.array([flag])}) for flag in (False, True))
    plain = run(graph())
    for name, expected in plain.items():
        np.testing.assert_allclose(untold[name], expected, atol=1e-5)
    np.testing.assert_array_equal(told["level2"], np.broadcast_to([[[[0.25]], [[0.5]]]], (1, 2, 7, 6)))
    assert np.abs(told["logits"] - plain["logits"]).max() > 0.01


def test_a_graph_that_multiplies_nothing_is_refused():
    x = opset13.parameter([1, 1, 8, 8], ov.Type.f32)
    alpha = opset13.sigmoid(x)
    model = ov.Model([opset13.relu(alpha), alpha], [x])
    for port, name in zip(model.outputs, ("logits", "level2"), strict=True):
        port.get_tensor().set_names({name})
    with pytest.raises(EngineError, match="where the attention of level2 is used") as refused:
        accept_attention(model)
    assert refused.value.hint


def constants(model):
    return [
        np.array(node.data)
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Constant" and node.data.size > 1
    ]


def test_every_weight_and_bias_is_permuted_within_itself(graph):
    plain, shuffled = graph(), graph()
    shuffle_weights(shuffled, 3)
    small = []
    for before, after in zip(constants(plain), constants(shuffled), strict=True):
        np.testing.assert_array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
        changed = not np.array_equal(before, after)
        if before.dtype.kind != "f" or np.ptp(before) == 0:
            assert not changed
        elif before.size > 8:
            assert changed
        else:  # by chance a short vector may stay as it is
            small.append(changed)
    assert len(small) > 10
    assert sum(small) > 0.6 * len(small)


def test_a_seed_shuffles_always_alike(graph):
    results = []
    for seed in (0, 0, 1):
        model = graph()
        shuffle_weights(model, seed)
        results.append(run(model)["logits"])
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0] - results[2]).max() > 0.01
    assert np.abs(results[0] - run(graph())["logits"]).max() > 0.01
