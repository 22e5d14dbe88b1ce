"""A graph that leads to other files, or to extensions, is refused before an engine reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attunet.bundle import load_bundle
from attunet.errors import BundleError
from attunet.inference.engines.graph_files import check_onnx, check_openvino
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.protocol import window_shape

GRAPH = Path("graph.xml")


@pytest.fixture
def graph(tiny_run):
    bundle = load_bundle(tiny_run)
    return bundle.folds[0].graph, window_shape(bundle.plan)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'version="opset1"', b'version="extension"', "which is never loaded"),
        (b'version="opset1"', b'version="/home/me/libmine.so"', "which is never loaded"),
        (b'offset="0"', b'offset="99999999"', "outside of its"),
        (b'offset="0"', b'offset="-4"', "outside of its"),
        (b"<net ", b'<!DOCTYPE net [<!ENTITY e SYSTEM "file:///etc/hostname">]><net ', "entities"),
        (b"</net>", b"", "not a readable OpenVINO graph"),
        (b"<?xml", b"PK", "not a readable OpenVINO graph"),
    ],
)
def test_an_openvino_graph_stays_within_itself(old, new, message, graph, tmp_path):
    file, shape = graph
    text = file.read_bytes()
    assert old in text
    (tmp_path / "graph.xml").write_bytes(text.replace(old, new, 1))
    (tmp_path / "graph.bin").write_bytes(file.with_suffix(".bin").read_bytes())
    with pytest.raises(BundleError, match=message) as refused:
        OpenVINOEngine(tmp_path / "graph.xml", shape)
    assert refused.value.hint


def test_a_graph_that_shrinks_while_it_is_used_changes_nothing(graph, tmp_path):
    for name in ("graph.xml", "graph.bin"):
        (tmp_path / name).write_bytes(graph[0].with_name(name).read_bytes())
    engine = OpenVINOEngine(tmp_path / "graph.xml", graph[1], precision="fp32")
    patch = np.random.default_rng(0).normal(size=(1, *graph[1])).astype(np.float32)
    expected = engine(patch)
    for name in ("graph.xml", "graph.bin"):
        (tmp_path / name).write_bytes(b"")
    given = {gate: 1 - alpha for gate, alpha in expected.attention.items()}
    np.testing.assert_array_equal(engine(patch).logits, expected.logits)
    assert engine(patch, given).attention.keys() == expected.attention.keys()  # compiled only now


def onnx_graph(location="values.bin", *, inside=False):
    """An ONNX graph whose tensor is in another file, in the branch of a node if `inside`."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    tensor = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    if location:
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    graph = helper.make_graph([node], "g", [], [output])
    if inside:
        graph = helper.make_graph(
            [helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)], "outer", [], [output]
        )
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret", "values.bin"])
@pytest.mark.parametrize("inside", [False, True])
def test_an_onnx_graph_is_one_file(location, inside):
    with pytest.raises(BundleError, match="keeps its weights in other files"):
        check_onnx(onnx_graph(location, inside=inside), Path("model.onnx"))


def test_an_onnx_graph_with_its_weights_is_accepted():
    check_onnx(onnx_graph(""), Path("model.onnx"))
    check_onnx(onnx_graph("", inside=True), Path("model.onnx"))


@pytest.mark.parametrize("content", [b"\xff" * 40, b"\x3a\x7f", b"\x3b", b"\x38\x01"])
def test_damaged_bytes_are_no_graph(content):
    with pytest.raises(BundleError, match="not a readable ONNX graph"):
        check_onnx(content, Path("model.onnx"))
    with pytest.raises(BundleError, match="not a readable OpenVINO graph"):
        check_openvino(content, 0, GRAPH)
