"""What clients are told about a model."""

from attunet.bundle import load_model
from attunet.serve.descriptions import describe_model


def test_a_description_says_what_a_model_needs_and_lacks(gated):
    model = load_model(gated)
    plan = next(iter(model.members.values())).plan
    told = describe_model("organs", model)
    assert told.labels == plan.labels
    assert told.gates == list(plan.network.gate_names)
    assert set(told.dice) == set(plan.foreground)
    assert any("no interval" in warning for warning in told.warnings)
    assert "not a medical device" in told.warnings[-1]


def test_a_cascade_has_the_map_of_its_localizer(make_model, make_cascade):
    assert "localizer" in describe_model("x", load_model(make_model(3, localizer={}))).gates
