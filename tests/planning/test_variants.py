"""Variants differ in one thing, and the widened control has as many weights as the gated network."""

from __future__ import annotations

import pytest

from attunet.config import Plan, load_settings
from attunet.errors import ConfigError
from attunet.networks import default_network, listing_network, paper_network
from attunet.planning.layers import count_parameters
from attunet.planning.variants import VARIANTS, make_variants, parse_variants, widened

NETWORKS = {
    **{variant: paper_network(variant) for variant in ("single", "multi")},
    "listing": listing_network("nearest"),
    **{
        f"default {dims}-D": default_network(
            spatial_dims=dims,
            in_channels=1,
            out_channels=3,
            channels=(16, 32, 64),
            strides=((2,) * dims,) * 2,
            kernel_sizes=((3,) * dims,) * 3,
        )
        for dims in (2, 3)
    },
}


def test_each_variant_changes_one_thing_and_keeps_patch_batch_and_budget(tiny_plan, tiny_config):
    plan, config = tiny_plan(), tiny_config(attention_sparsity=0.01)
    made = {variant.name: variant for variant in make_variants(tuple(VARIANTS), plan, config)}
    assert (made["gated"].plan, made["gated"].config) == (plan, config)
    for variant in made.values():
        same = {"network", "reasons"}
        assert variant.plan.model_dump(exclude=same) == plan.model_dump(exclude=same)
        assert variant.config.epochs == config.epochs
        assert variant.description == VARIANTS[variant.name]
        assert load_settings(Plan, variant.plan.model_dump(mode="json")) == variant.plan
    assert made["ungated"].plan.network == plan.network.model_copy(update={"gate": None})
    assert made["wider"].plan.network.gate is None
    assert (made["multi"].plan.network.gate, made["additive"].plan.network.gate) == ("multi", "additive")
    assert made["projected"].plan.network.gate_projection
    assert made["supervised"].config.attention_supervision > 0
    assert made["sparse"].config.attention_sparsity > config.attention_sparsity
    for name in ("ungated", "wider"):  # the training refuses to supervise gates that are not there
        assert made[name].config.attention_sparsity == made[name].config.attention_supervision == 0
        assert name in made[name].plan.reasons["variant"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_widened_network_has_just_as_many_weights(name):
    gated = NETWORKS[name]
    plain = gated.model_copy(update={"gate": None})
    control = plain.model_copy(update={"channels": widened(gated)})
    assert all(wide >= narrow for wide, narrow in zip(control.channels, gated.channels, strict=True))
    assert count_parameters(plain) < count_parameters(gated) <= count_parameters(control)
    # a channel more or less on the widest level is what rounding can cost
    assert count_parameters(control) < 1.1 * count_parameters(gated)


def test_names_are_parsed_once_each_and_unknown_ones_refused_with_the_list():
    assert parse_variants("ungated, gated,ungated") == ("ungated", "gated")
    with pytest.raises(ConfigError, match="no variant 'gaited'") as refused:
        parse_variants("gated,gaited")
    assert all(name in refused.value.hint for name in VARIANTS)
    with pytest.raises(ConfigError, match="got 1 variant"):
        parse_variants("gated")


def test_a_plan_without_gate_or_two_equal_variants_are_refused(tiny_plan, tiny_config):
    plan = tiny_plan()
    ungated = plan.model_copy(update={"network": plan.network.model_copy(update={"gate": None})})
    with pytest.raises(ConfigError, match="no gate to compare"):
        make_variants(("gated", "ungated"), ungated, tiny_config())
    additive = plan.model_copy(update={"network": plan.network.model_copy(update={"gate": "additive"})})
    with pytest.raises(ConfigError, match="gated and additive are the same"):
        make_variants(("gated", "ungated", "additive"), additive, tiny_config())
