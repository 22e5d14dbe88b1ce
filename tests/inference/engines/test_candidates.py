"""Which engines can compute a fold."""

from __future__ import annotations

import shutil

import pytest

from attunet.bundle import FoldFiles, load_bundle
from attunet.errors import EngineError
from attunet.inference.engines import candidates
from attunet.inference.engines.candidates import candidates_for


@pytest.fixture
def fold(tiny_run):
    return load_bundle(tiny_run).folds[0]


def test_a_trained_fold_is_computed_by_all_and_torch_is_the_reference(fold, make_plan_of, monkeypatch):
    monkeypatch.setattr(candidates, "cpu_precision", lambda: "bf16")
    found = candidates_for(fold, make_plan_of())
    assert next(iter(found)) == "torch cpu float32"
    assert [found[name].execution.engine for name in found] == ["torch", "torch", "openvino", "openvino"]
    monkeypatch.setattr(candidates, "cpu_precision", lambda: "fp32")
    assert list(candidates_for(fold, make_plan_of())) == ["torch cpu float32", "openvino cpu fp32"]


def test_without_torch_openvino_is_the_reference(fold, make_plan_of, monkeypatch):
    monkeypatch.setattr(candidates, "find_spec", lambda _name: None)
    assert next(iter(candidates_for(fold, make_plan_of()))) == "openvino cpu fp32"


def test_an_exported_fold_is_computed_by_what_it_holds(fold, make_plan_of, tmp_path):
    for name in ("graph.xml", "graph.bin"):
        shutil.copyfile(fold.folder / name, tmp_path / name)
    assert {found.execution.engine for found in candidates_for(FoldFiles(tmp_path), make_plan_of()).values()} == {
        "openvino"
    }


def test_an_empty_fold_cannot_be_computed(make_plan_of, tmp_path):
    with pytest.raises(EngineError, match="nothing here can compute"):
        candidates_for(FoldFiles(tmp_path), make_plan_of())
