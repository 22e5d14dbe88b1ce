"""The gates that are replaced are told the right numbers, in every fold, and no others are."""

from dataclasses import replace

import numpy as np
import pytest

from attunet.errors import ConfigError
from attunet.explanation.interventions.altered_gates import REPLACEMENTS, AblatedEngine, gates_of, with_gates_replaced
from attunet.inference.engines.engine import EngineOutput

PATCHES = np.random.default_rng(1).normal(size=(2, 1, 8, 6, 4)).astype(np.float32)


class Two:
    """A gate of two maps on a coarser grid; tells back what it was told."""

    name = "two"
    batch = 2

    def __call__(self, patches, attention=None):
        own = {"level2": np.concatenate([patches, -patches], axis=1)[:, :, ::2, ::2, ::2]}
        return EngineOutput(np.zeros_like(patches), own | dict(attention or {}))


@pytest.mark.parametrize(("replacement", "expected"), [("one", (1, 1)), ("zero", (0, 0)), ("mean", (0.25, 0.5))])
def test_constants_fill_the_gates_grid(replacement, expected):
    engine = AblatedEngine(Two(), replacement, ["level2"], means={"level2.1": 0.25, "level2.2": 0.5})
    for patches in (PATCHES, PATCHES[:1]):  # the last batch may be smaller
        told = engine(patches).attention["level2"]
        assert told.shape == (len(patches), 2, 4, 3, 2)
        assert told.dtype == np.float32
        np.testing.assert_allclose(told, np.broadcast_to(np.reshape(expected, (1, 2, 1, 1, 1)), told.shape))


def test_shuffled_maps_are_the_windows_own_in_another_order():
    own, told = (
        engine(PATCHES).attention["level2"] for engine in (Two(), AblatedEngine(Two(), "shuffled", ["level2"]))
    )
    assert not np.array_equal(told, own)
    np.testing.assert_array_equal(np.sort(told.reshape(2, 2, -1)), np.sort(own.reshape(2, 2, -1)))
    np.testing.assert_array_equal(told[:, 0], -told[:, 1])  # two maps of one gate move together
    again = AblatedEngine(Two(), "shuffled", ["level2"])(PATCHES).attention["level2"]
    np.testing.assert_array_equal(told, again)
    other = AblatedEngine(Two(), "shuffled", ["level2"], seed=1)(PATCHES).attention["level2"]
    assert not np.array_equal(told, other)


def test_what_is_given_comes_before_what_is_replaced():
    given = np.full((2, 2, 4, 3, 2), 0.3, np.float32)
    assert AblatedEngine(Two(), "one", ["level2"])(PATCHES, {"level2": given}).attention["level2"] is given


@pytest.mark.parametrize(
    ("replacement", "gate", "means", "told"),
    [
        ("half", "level2", {}, "replacement 'half' is unknown"),
        ("mean", "level2", {"level3": 0.5}, "no mean of gate level2, only of level3"),
        ("one", "level7", {}, "no gate level7, its gates: level2"),
        ("mean", "level2", dict.fromkeys(("level2", "level2.1", "level2.2"), 0.5), "3 means for gate level2"),
    ],
)
def test_what_cannot_be_replaced_is_said(replacement, gate, means, told):
    with pytest.raises(ConfigError, match=told) as caught:
        AblatedEngine(Two(), replacement, [gate], means=means)(PATCHES)
    assert caught.value.hint


def test_every_fold_is_told_and_the_other_gates_are_not(segmenter, gated):
    altered = with_gates_replaced(segmenter, "one", ["level3"])
    assert gates_of(altered) == gates_of(segmenter) == ("level2", "level3")
    for engine in altered.engines:
        gated.told.clear()
        engine(PATCHES)
        assert [sorted(told) for told in gated.told] == [[], ["level3"]]
        assert engine.batch == gated.batch
        assert engine.name == "gated, level3 replaced (one)"


def test_members_are_told_their_own_gates(segmenter, gated_plan, make_plan_of):
    (one,) = segmenter.members
    plain = replace(one, name="plain", plan=make_plan_of(gate=None))
    several = replace(segmenter, members=(one, replace(one, name="other"), plain))
    assert gates_of(several) == ("m/level2", "m/level3", "other/level2", "other/level3")
    altered = with_gates_replaced(several, "mean", ["other/level2"], {"other/level2": 0.4})
    assert altered.members[0].engines == one.engines
    assert altered.members[2].engines == plain.engines
    patches = PATCHES[:, :, :4, :4, :4]
    alpha = altered.members[1].engines[0](patches).attention["level2"]
    np.testing.assert_allclose(alpha, 0.4)


def test_every_replacement_is_described():
    assert set(REPLACEMENTS) == {"one", "mean", "zero", "shuffled"}
