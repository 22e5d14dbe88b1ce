"""The context of a cascade, replaced: its networks see less, or another place, and the rows show what that costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attunet.data.coarse_map import CoarseMap
from attunet.errors import ConfigError
from attunet.explanation.interventions.ablation import ALL, ablate_case
from attunet.explanation.interventions.ablation_summary import Ablation
from attunet.explanation.interventions.context import (
    CONTEXT_REPLACEMENTS,
    contexts_of,
    localizers_of,
    with_context_replaced,
)
from attunet.explanation.interventions.faithfulness import delete_and_insert
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter


class Bright:
    """A localizer that finds what is bright."""

    name, batch = "bright", 2

    def __call__(self, patches, attention=None):
        logits = np.zeros((len(patches), 3, *patches.shape[2:]), np.float32)
        logits[:, 1] = 9 * np.sign(patches[:, 0] - 1)
        logits[:, 2] = -9
        return EngineOutput(logits, {})


class Trusting:
    """A network whose body is where its context says so; its gates look everywhere."""

    name, batch = "trusting", 2

    def __call__(self, patches, attention=None):
        logits = np.zeros((len(patches), 3, *patches.shape[2:]), np.float32)
        logits[:, 1] = 20 * patches[:, 1] - 10
        own = {"level2": np.full_like(patches[:, :1], 0.5)}
        return EngineOutput(logits, {**own, **(attention or {})})


@pytest.fixture
def cascaded(make_plan_of, make_cascade):
    """A cascade of one gate that sees its context."""
    plan = make_cascade(make_plan_of())
    return Segmenter((Member("m", plan, (Trusting(),), localizers=((Bright(),),)),))


def test_the_context_is_replaced_on_its_own_and_before_the_gates(cascaded, bright_ball):
    image, _ = bright_ball
    steps = []
    own = cascaded.predict(image, mirror=False)
    assert (own.segmentation.array == 1).any()
    rows = ablate_case(
        cascaded,
        image,
        own.segmentation,
        case="ball",
        means={"level2": 0.5},
        advance=lambda *counts: steps.append(counts),
    )
    dice = {(row.gate, row.replacement): row.after["Dice"] for row in rows if row.label == "body"}
    assert list(dict.fromkeys(row.gate for row in rows)) == ["localizer", "level2"]
    assert {replacement for gate, replacement in dice if gate == "localizer"} == set(CONTEXT_REPLACEMENTS)
    assert dice["localizer", "mean"] == dice["localizer", "zero"] == 0.0
    assert dice["localizer", "shifted"] < 0.3
    assert {value for (gate, _), value in dice.items() if gate == "level2"} == {1.0}
    assert steps[-1] == (8, 8)
    ablation = Ablation(rows)
    assert "shifted" in ablation.replacements
    assert {(effect.gate, effect.replacement) for effect in ablation.effects()} == set(dice)
    assert "localizer (its context)" in ablation.finding
    assert "the gate or the context held at its mean" in ablation.finding
    content = ablation.to_json()
    assert content["context_replacements"] == dict(CONTEXT_REPLACEMENTS)
    assert "shifted" not in content["replacements"]


def test_each_replacement_keeps_what_it_says(cascaded):
    values = np.random.default_rng(0).random((2, 6, 10, 1)).astype(np.float32)
    context = CoarseMap(values, (12, 20, 1))
    changed = {
        name: with_context_replaced(cascaded, name, "localizer").members[0].revise(context).values
        for name in CONTEXT_REPLACEMENTS
    }
    assert not changed["zero"].any()
    np.testing.assert_allclose(changed["mean"][:, 0, 0, 0], values.mean(axis=(1, 2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(changed["shifted"], np.roll(values, (3, 4), axis=(1, 2)))  # at most half an axis
    assert {array.shape for array in changed.values()} == {values.shape}


def test_what_has_no_context_is_not_replaced(cascaded, make_plan_of, make_cascade):
    (member,) = cascaded.members
    blind = replace(member, plan=make_cascade(make_plan_of(), context="none"))
    segmenter = replace(cascaded, members=(blind,))
    assert localizers_of(segmenter) == ("localizer",)
    assert contexts_of(segmenter) == ()
    with pytest.raises(ConfigError, match="no context localizer"):
        with_context_replaced(segmenter, "zero", "localizer")
    with pytest.raises(ConfigError, match="'one' of a context is unknown"):
        with_context_replaced(cascaded, "one", "localizer")


def test_an_ensemble_names_the_context_of_each_member(cascaded):
    (member,) = cascaded.members
    both = replace(cascaded, members=(replace(member, name="a"), replace(member, name="b")))
    assert contexts_of(both) == ("a/localizer", "b/localizer")
    altered = with_context_replaced(both, "zero", "b/localizer")
    context = CoarseMap(np.ones((2, 2, 2, 2), np.float32), (4, 4, 4))
    assert [each.revise(context).values.any() for each in altered.members] == [True, False]


def test_deletion_and_insertion_leave_the_localizer_out(cascaded, bright_ball):
    image, reference = bright_ball
    curves = delete_and_insert(cascaded, image, reference, case="ball")
    assert {curve.gate for curve in curves} == {"level2", "random blobs"}


def test_without_gates_there_is_still_the_context(cascaded, bright_ball):
    (member,) = cascaded.members
    network = member.plan.network.model_copy(update={"gate": None})
    bare = replace(cascaded, members=(replace(member, plan=member.plan.model_copy(update={"network": network})),))
    rows = ablate_case(bare, bright_ball[0], case="ball")
    assert {row.gate for row in rows} == {"localizer"}
    assert ALL not in {row.gate for row in rows}
