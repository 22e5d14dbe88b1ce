"""ONNX Runtime: torch's numbers, for the gates' own attention and for one that is given."""

from __future__ import annotations

import builtins
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from attunet.errors import BundleError, DataError, EngineError
from attunet.inference.engines.onnx_engine import ONNXEngine
from attunet.inference.engines.torch_engine import TorchEngine

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def pair(make_plan_of, make_network, tmp_path_factory):
    """One 2-D network in ONNX Runtime and in torch, and the file; it pads its patch, so it takes no other size."""
    from attunet.export.formats import export_onnx

    plan = make_plan_of(2, gate="additive").model_copy(update={"patch_size": (15, 12, 1)})
    network = make_network(plan)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(network, plan, path)
    return ONNXEngine(path, (1, 15, 12), threads=1), TorchEngine(None, network, device="cpu"), path


def patches(count=2):
    return np.random.default_rng(0).normal(size=(count, 1, 15, 12)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 3])
def test_it_agrees_with_torch(pair, count):
    engine, reference, _ = pair
    found, expected = engine(patches(count)), reference(patches(count))
    assert engine.name == "onnxruntime cpu fp32"
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)
    assert found.attention.keys() == expected.attention.keys()
    for gate, alpha in expected.attention.items():
        np.testing.assert_allclose(found.attention[gate], alpha, atol=1e-4)


def test_the_attention_that_is_given_scales_the_skip(pair):
    engine, reference, _ = pair
    random = np.random.default_rng(1)
    own = engine(patches()).attention
    given = {gate: random.uniform(size=alpha.shape).astype(np.float32) for gate, alpha in own.items()}
    told = engine(patches(), given)
    np.testing.assert_allclose(told.logits, reference(patches(), given).logits, atol=1e-4)
    assert np.abs(told.logits - engine(patches()).logits).max() > 0.01


def test_flipped_views_and_threads_are_taken(pair):
    engine, _, _ = pair
    turned = np.flip(patches(), 2)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(engine, [turned, patches(), turned]))
    np.testing.assert_array_equal(found[0].logits, engine(turned.copy()).logits)
    np.testing.assert_array_equal(found[0].logits, found[2].logits)


def test_what_cannot_be_used_is_refused(pair, tmp_path, monkeypatch):
    engine, _, path = pair
    with pytest.raises(DataError, match="expected"):
        engine(np.zeros((1, 1, 8, 8), np.float32))
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="not a readable ONNX graph"):
        ONNXEngine(tmp_path / "model.onnx", (1, 15, 12))
    original = builtins.__import__

    def absent(name, *rest, **named):
        if name == "onnxruntime":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(EngineError, match="needs onnxruntime") as caught:
        ONNXEngine(path, (1, 15, 12))
    assert "attunet[onnx]" in caught.value.hint
