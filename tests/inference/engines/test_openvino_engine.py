"""The OpenVINO engine: torch's numbers, for the gates' own attention and for one that is given."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from attunet.bundle import load_bundle
from attunet.errors import BundleError, DataError
from attunet.export.formats import export_openvino
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.networks import listing_network, paper_network


@pytest.fixture(params=["tiny_run", "tiny_slices"])
def bundle(request):
    return load_bundle(request.getfixturevalue(request.param))


def patches_of(plan, count):
    shape = (plan.network.in_channels, *plan.patch_size[: plan.network.spatial_dims])
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def engine_of(bundle, **how):
    shape = patches_of(bundle.plan, 1).shape[1:]
    return OpenVINOEngine(bundle.folds[0].graph, shape, **{"precision": "fp32", **how})


def given_to(engine, patches, *gates):
    """Random coefficients for some gates, or all."""
    own, random = engine(patches).attention, np.random.default_rng(1)
    return {gate: random.uniform(size=own[gate].shape).astype(np.float32) for gate in gates or own}


@pytest.mark.parametrize("count", [1, 3])
def test_openvino_and_torch_agree(bundle, count):
    patches = patches_of(bundle.plan, count)
    graph = engine_of(bundle, batch=3)(patches)
    reference = TorchEngine(bundle.folds[0].weights, bundle.plan.network, device="cpu")(patches)
    np.testing.assert_allclose(graph.logits, reference.logits, atol=1e-4)
    assert graph.attention.keys() == reference.attention.keys() == {"level2"}
    np.testing.assert_allclose(graph.attention["level2"], reference.attention["level2"], atol=1e-4)
    assert 0 <= graph.attention["level2"].min() < graph.attention["level2"].max() <= 1


def test_a_short_batch_computes_as_a_full_one(bundle):
    engine, patches = engine_of(bundle, batch=4), patches_of(bundle.plan, 4)
    np.testing.assert_allclose(engine(patches[:1]).logits, engine(patches).logits[:1], atol=1e-5)


NETWORKS = {
    "grid": {"spatial_dims": 3},
    "grid, padded patch": {"spatial_dims": 3, "patch": (13, 11, 9)},
    "multi, padded patch": {"spatial_dims": 3, "gate": "multi", "patch": (13, 12, 7)},
    "projection": {"spatial_dims": 3, "gate_projection": True},
    "flat grid": {"spatial_dims": 2, "patch": (15, 12, 1)},
    "flat additive": {"spatial_dims": 2, "gate": "additive", "gated_levels": (1, 2), "patch": (15, 12, 1)},
    "additive": {"spatial_dims": 3, "gate": "additive", "gated_levels": (1, 2)},
    "paper single": {"preset": lambda: paper_network("single", out_channels=3, channels=(2, 4, 6))},
    "paper multi": {"preset": lambda: paper_network("multi", out_channels=3, channels=(2, 4, 6)), "patch": (16, 12, 9)},
    "listing": {
        "preset": lambda: listing_network(in_channels=1, out_channels=3, channels=(4, 6, 8)),
        "patch": (16, 13, 1),
    },
}


@pytest.fixture
def exported(make_plan_of, make_network, tmp_path):
    """A function: plan, network and fp32 engine of one of `NETWORKS`."""

    def make(spatial_dims=3, gate="grid", patch=None, preset=None, **changes):
        plan = make_plan_of(spatial_dims, gate=gate)
        network = preset() if preset else plan.network.model_copy(update=changes)
        plan = plan.model_copy(update={"network": network, "patch_size": patch or plan.patch_size})
        made = make_network(plan)
        export_openvino(made, plan, tmp_path / "graph.xml")
        shape = patches_of(plan, 1).shape[1:]
        return plan, made, OpenVINOEngine(tmp_path / "graph.xml", shape, precision="fp32")

    return make


@pytest.mark.parametrize("name", NETWORKS)
def test_the_skip_is_scaled_by_the_attention_that_is_given(name, exported):
    plan, network, engine = exported(**NETWORKS[name])
    patches = patches_of(plan, 2)
    given = given_to(engine, patches)
    told = engine(patches, given)
    with torch.no_grad():
        tensors = {gate: torch.from_numpy(alpha) for gate, alpha in given.items()}
        expected = network(torch.from_numpy(patches), detailed=True, attention=tensors).logits
    np.testing.assert_allclose(told.logits, expected, atol=1e-4)
    assert np.abs(told.logits - engine(patches).logits).max() > 0.01
    for gate, alpha in given.items():
        np.testing.assert_array_equal(told.attention[gate], alpha)


def test_gates_that_are_not_named_see_what_the_others_do(exported):
    plan, network, engine = exported(**NETWORKS["flat additive"])
    patches = patches_of(plan, 1)
    given = given_to(engine, patches, "level2")
    told = engine(patches, given)
    reference = TorchEngine(None, network, device="cpu")(patches, given)
    assert list(told.attention) == list(engine(patches).attention)
    np.testing.assert_allclose(told.logits, reference.logits, atol=1e-4)
    np.testing.assert_allclose(told.attention["level1"], reference.attention["level1"], atol=1e-4)


def test_its_own_attention_given_back_changes_nothing(bundle):
    engine, patches = engine_of(bundle), patches_of(bundle.plan, 2)
    plain = engine(patches)
    np.testing.assert_allclose(engine(patches, plain.attention).logits, plain.logits, atol=1e-5)
    assert np.array_equal(engine(patches).logits, plain.logits)
    assert np.array_equal(engine(patches, {}).logits, plain.logits)


def test_threads_do_not_share_replaced_attention(bundle):
    engine, patches = engine_of(bundle), patches_of(bundle.plan, 2)
    given = given_to(engine, patches)
    told, plain = engine(patches, given).logits, engine(patches).logits
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda index: engine(patches, given if index % 2 else None).logits, range(16)))
    for index, answer in enumerate(answers):
        np.testing.assert_allclose(answer, told if index % 2 else plain, atol=1e-5)


def test_attention_that_does_not_fit_is_refused(bundle):
    engine, patches = engine_of(bundle), patches_of(bundle.plan, 2)
    alpha = given_to(engine, patches)["level2"]
    with pytest.raises(DataError, match="'level9', the gates are: level2"):
        engine(patches, {"level9": alpha})
    for wrong in (alpha[:1], alpha[:, :, 1:], np.concatenate([alpha] * 2, axis=1)):
        with pytest.raises(DataError, match=r"attention of level2 has shape .* expected \(2, 1, 8, 6"):
            engine(patches, {"level2": wrong})


def test_shuffled_weights_make_another_network_and_say_so(bundle):
    patches = patches_of(bundle.plan, 2)
    plain, one, same, other = (engine_of(bundle, shuffle=seed) for seed in (None, 0, 0, 1))
    assert one.name == f"{plain.name}, weights shuffled with seed 0"
    np.testing.assert_array_equal(one(patches).logits, same(patches).logits)
    for different in (plain, other):
        assert np.abs(one(patches).attention["level2"] - different(patches).attention["level2"]).max() > 0.01
    given = given_to(one, patches)
    assert np.abs(one(patches, given).logits - plain(patches, given).logits).max() > 0.01


def test_a_graph_that_is_none_is_refused(tmp_path):
    (tmp_path / "graph.xml").write_text("<net>")
    with pytest.raises(BundleError, match="cannot be read by OpenVINO"):
        OpenVINOEngine(tmp_path / "graph.xml", (1, 8, 8))


INTERRUPTED = """
import signal, sys
from pathlib import Path
from attunet.inference.engines.openvino_engine import OpenVINOEngine

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
