"""Graphs in 8-bit integers are made in a process of their own, which may fail or take too long."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from attunet.errors import EngineError
from attunet.export import int8_graph
from attunet.export.int8_graph import require_nncf, write_int8_graph
from attunet.inference.engines.openvino_engine import OpenVINOEngine

pytest.importorskip("nncf")


def patches_for(plan):
    return [np.random.default_rng(seed).normal(size=(1, 1, *plan.patch_size)).astype(np.float32) for seed in range(3)]


@pytest.mark.integration
def test_the_graph_computes_nearly_the_same_and_this_process_opens_no_other_core(exported, tiny_plan, tmp_path):
    before = {name for name in sys.modules if name.startswith("nncf.openvino")}
    graph, plan = exported("openvino").folder / "fold_0" / "graph.xml", tiny_plan()
    write_int8_graph(graph, patches_for(plan), tmp_path / "int8.xml", seconds=300)
    assert before == {name for name in sys.modules if name.startswith("nncf.openvino")}
    plain, integers = (OpenVINOEngine(path, (1, *plan.patch_size)) for path in (graph, tmp_path / "int8.xml"))
    assert integers.name == "openvino cpu int8"
    windows = np.concatenate(patches_for(plan)[:2])
    difference = np.abs(integers(windows).logits - plain(windows).logits).max()
    assert 0 < difference < 0.2 * np.abs(plain(windows).logits).max()


@pytest.mark.integration
def test_a_graph_that_cannot_be_quantized_is_an_error_without_the_paths_of_this_machine(tmp_path, tiny_plan):
    (tmp_path / "graph.xml").write_text("<net/>")
    (tmp_path / "graph.bin").write_bytes(b"")
    with pytest.raises(EngineError, match="cannot be quantized: ") as failed:
        write_int8_graph(tmp_path / "graph.xml", patches_for(tiny_plan()), tmp_path / "out" / "int8.xml")
    assert str(tmp_path) not in str(failed.value)
    assert not (tmp_path / "out" / "int8.xml").exists()


def test_the_process_is_ended_when_its_time_is_over(tmp_path, tiny_plan):
    with pytest.raises(EngineError, match=r"took longer than 0 s"):
        write_int8_graph(tmp_path / "graph.xml", patches_for(tiny_plan()), tmp_path / "int8.xml", seconds=0.01)


def test_without_nncf_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(int8_graph, "find_spec", lambda _name: None)
    for call in (require_nncf, lambda: write_int8_graph(tmp_path / "graph.xml", [], tmp_path / "int8.xml")):
        with pytest.raises(EngineError, match="need nncf") as refused:
            call()
        assert "attunet[int8]" in refused.value.hint
