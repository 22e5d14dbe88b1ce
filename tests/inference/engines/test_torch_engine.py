"""The torch engine, on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attunet.errors import BundleError, DataError
from attunet.inference.engines.torch_engine import DeferredCompilation, TorchEngine, compile_or_continue
from attunet.nn import save_weights


def patches(count=2):
    return np.random.default_rng(0).normal(size=(count, 1, 16, 12, 8)).astype(np.float32)


def test_a_file_and_its_network_compute_the_same(make_plan_of, make_network, tmp_path):
    plan = make_plan_of()
    network = make_network(plan)
    save_weights(network, tmp_path / "weights.safetensors")
    from_file = TorchEngine(tmp_path / "weights.safetensors", plan.network, device="cpu")(patches())
    as_it_is = TorchEngine(None, network, device="cpu")(patches())
    np.testing.assert_allclose(from_file.logits, as_it_is.logits, atol=1e-6)
    assert from_file.logits.dtype == from_file.attention["level2"].dtype == np.float32
    assert from_file.attention["level2"].shape == (2, 1, 8, 6, 4)


def test_sixteen_bits_are_named_and_close(make_plan_of, make_network):
    network = make_network(make_plan_of())
    exact = TorchEngine(None, network, device="cpu")
    rough = TorchEngine(None, network, device="cpu", low_precision=True)
    assert (exact.name, rough.name) == ("torch cpu float32", "torch cpu bfloat16")
    difference = np.abs(exact(patches()).logits - rough(patches()).logits)
    assert 0 < difference.max() < 0.1 * np.abs(exact(patches()).logits).max()


def test_flipped_views_are_taken(make_plan_of, make_network):
    engine = TorchEngine(None, make_network(make_plan_of()), device="cpu")
    turned = np.flip(patches(), (2, 4))
    np.testing.assert_allclose(engine(turned).logits, engine(turned.copy()).logits, atol=1e-6)


def test_weights_of_another_network_are_refused(make_plan_of, make_network, tmp_path):
    save_weights(make_network(make_plan_of()), tmp_path / "weights.safetensors")
    with pytest.raises(BundleError, match="does not fit"):
        TorchEngine(tmp_path / "weights.safetensors", make_plan_of(in_channels=2).network, device="cpu")


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 0.2)])
def test_given_attention_scales_the_skip_and_is_returned(half, tolerance, make_plan_of, make_network):
    engine = TorchEngine(None, make_network(make_plan_of()), device="cpu", low_precision=half)
    plain = engine(patches())
    np.testing.assert_allclose(engine(patches(), plain.attention).logits, plain.logits, atol=tolerance)
    given = {"level2": np.random.default_rng(1).uniform(size=(2, 1, 8, 6, 4))}
    told = engine(patches(), given)
    np.testing.assert_array_equal(told.attention["level2"], given["level2"].astype(np.float32))
    assert np.abs(told.logits - plain.logits).max() > 0.01
    with pytest.raises(DataError, match="the gates are: level2"):
        engine(patches(), {"level7": given["level2"]})


def test_shuffled_weights_are_the_same_numbers_elsewhere(make_plan_of, make_network):
    network = make_network(make_plan_of())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    plain, one, same, other = (TorchEngine(None, network, device="cpu", shuffle=seed) for seed in (None, 0, 0, 1))
    assert one.name == "torch cpu float32, weights shuffled with seed 0"
    np.testing.assert_array_equal(one(patches()).logits, same(patches()).logits)
    for different in (plain, other):
        assert np.abs(one(patches()).logits - different(patches()).logits).max() > 0.01
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_compiling_waits_until_it_is_likely_to_pay(make_plan_of, make_network):
    network, compiled = make_network(make_plan_of()), object()
    deferred = DeferredCompilation(network, 10.0, lambda _network: compiled)
    deferred.add(5.0)
    assert deferred.network is network
    deferred.add(10.0)
    assert deferred.network is compiled


def test_where_nothing_compiles_the_network_continues_uncompiled(make_plan_of, make_network, monkeypatch):
    network = make_network(make_plan_of())

    def fail(*_arguments, **_named):
        raise torch._dynamo.exc.TorchDynamoException("no compiler")

    monkeypatch.setattr(torch, "compile", lambda _network: fail)
    run = compile_or_continue(network)
    image = torch.from_numpy(patches())
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(run(image), network(image))
