"""The ONNX graph: names, free sizes, and the numbers of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attunet.bundle import load_bundle
from attunet.errors import EngineError
from attunet.export import onnx
from attunet.export.package import load_network

runtime = pytest.importorskip("onnxruntime")


def test_any_batch_and_size_computes_what_torch_computes(exported, trained_run):
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
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(EngineError, match="onnxscript") as caught:
        onnx.export_onnx(make_network(make_plan_of(2)), make_plan_of(2), tmp_path / "model.onnx")
    assert "attunet[onnx]" in caught.value.hint
    assert not list(tmp_path.iterdir())
