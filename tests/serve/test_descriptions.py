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
    (none,) = [warning for warning in told.warnings if "no interval" in warning]
    assert all(name in none for name in plan.foreground)
    assert "not a medical device" in told.warnings[-1]


def test_a_description_names_the_modality(make_model):
    assert "lesion in CT images" in describe_model("x", load_model(make_model(3, modality="ct"))).description
    assert "lesion in images" in describe_model("x", load_model(make_model(3, modality="other"))).description


def test_a_cascade_has_the_map_of_its_localizer(make_model, make_cascade):
    assert "localizer" in describe_model("x", load_model(make_model(3, localizer={}))).gates
