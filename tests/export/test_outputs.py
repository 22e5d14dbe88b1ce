"""What exported networks have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attunet.errors import TrainingError
from attunet.export.outputs import NamedOutputs, check_parity, example_input, prepare_for_export, tensor_shapes
from attunet.inference.engines.torch_engine import TorchEngine


@pytest.mark.parametrize(("dims", "gate"), [(3, "multi"), (2, "additive"), (3, None)])
def test_shapes_are_those_of_the_outputs(dims, gate, make_plan_of, make_network):
    plan = make_plan_of(dims, gate=gate)
    with torch.no_grad():
        outputs = NamedOutputs(make_network(plan))(example_input(plan))
    fixed = tensor_shapes(plan, free=False)
    assert fixed.pop("image") == ("batch", 1, *plan.patch_size[:dims])
    assert fixed == {name: ("batch", *tensor.shape[1:]) for name, tensor in outputs.items()}


def test_free_sizes_are_multiples(make_plan_of):
    shapes = tensor_shapes(make_plan_of(3), free=True)
    assert shapes["image"] == ("batch", 1, "4i", "4j", "4k")
    assert shapes["level2"] == ("batch", 1, "2i", "2j", "2k")


def test_an_engine_that_differs_is_refused(make_plan_of, make_network):
    plan = make_plan_of(2)
    network = prepare_for_export(make_network(plan))
    assert check_parity(network, plan, TorchEngine(None, network, device="cpu")) == 0
    other = TorchEngine(None, make_network(plan, seed=1), device="cpu")
    with pytest.raises(TrainingError, match="differs from the network") as caught:
        check_parity(network, plan, other)
    assert caught.value.hint
    assert check_parity(network, plan, other, tolerance=np.inf) > 0
