"""Replaced gates get the right coefficients in every fold, and the rows show which gates the network needs."""

import json
from dataclasses import replace
from math import isnan

import numpy as np
import pytest

from attunet.errors import ConfigError, GeometryError
from attunet.explanation.interventions.ablation import (
    ABLATION_METRICS,
    ALL,
    REPLACEMENTS,
    AblatedEngine,
    ablate_case,
    gates_of,
    with_gates_replaced,
)
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.segmenter import Segmenter

MEANS = {"level2": 0.2, "level3": 0.8}


def test_rows_hold_the_effect_of_each_gate(segmenter, bright_ball):
    steps = []
    image, reference = bright_ball
    rows = ablate_case(
        segmenter, image, reference, case="ball", means=MEANS, advance=lambda *counts: steps.append(counts)
    )
    dice = {(row.gate, row.replacement): row.after["Dice"] for row in rows if row.label == "body"}
    assert all(row.before["Dice"] == 1.0 and row.case == "ball" for row in rows if row.label == "body")
    assert len(dice) == 3 * 4
    assert [steps[0], steps[-1], len(steps)] == [(1, 13), (13, 13), 13]
    # level3 is above a half everywhere, and that is all the network asks of it
    assert dice["level3", "one"] == dice["level3", "mean"] == dice["level3", "shuffled"] == 1.0
    assert dice["level3", "zero"] == dice["level2", "zero"] == dice["level2", "mean"] == dice[ALL, "zero"] == 0.0
    # where everything passes everything bright enough is body
    assert 0 < dice["level2", "one"] < 0.5
    assert dice["level2", "shuffled"] < 0.5
    row = next(row for row in rows if (row.gate, row.replacement, row.label) == ("level2", "zero", "body"))
    assert row.delta() == -1.0
    assert row.delta("HD95") == pytest.approx(np.linalg.norm(image.spatial_shape))  # an empty mask: the diagonal


def test_a_label_that_is_nowhere_has_no_change(segmenter, bright_ball):
    image, reference = bright_ball
    rows = ablate_case(segmenter, image, reference, case="ball", replacements=["zero"])
    absent = [row for row in rows if row.label == "lesion"]
    assert absent
    assert all(isnan(row.delta()) for row in absent)
    values = json.loads(json.dumps(absent[0].to_json(), allow_nan=False))
    assert values["before"] == values["after"] == dict.fromkeys(ABLATION_METRICS)


def test_without_a_reference_its_own_mask_takes_the_place(segmenter, bright_ball):
    image, reference = bright_ball
    own, known = (
        ablate_case(segmenter, image, truth, case="ball", replacements=["one", "zero"]) for truth in (None, reference)
    )
    assert {row.against for row in own} == {"own mask"}
    assert {row.against for row in known} == {"reference"}
    alike = [(row.delta(), other.delta()) for row, other in zip(own, known, strict=True) if row.label == "body"]
    assert all(one == other for one, other in alike)  # its mask is right


def test_only_annotated_labels_are_scored(segmenter, bright_ball):
    image, reference = bright_ball
    rows = ablate_case(segmenter, image, reference, case="ball", replacements=["one"], annotated=["lesion"])
    assert {row.label for row in rows} == {"lesion"}


def test_impossible_ablations_are_refused(segmenter, bright_ball, make_plan_of, gated):
    image, reference = bright_ball
    with pytest.raises(ConfigError, match="no mean of gate level2"):
        ablate_case(segmenter, image, reference, case="ball")
    assert not gated.received  # nothing was predicted before
    ungated = Segmenter((segmenter.members[0].__class__("m", make_plan_of(gate=None), (gated,)),))
    with pytest.raises(ConfigError, match="no gates"):
        ablate_case(ungated, image, reference, case="ball")
    cut = reference.with_array(reference.array[:, 1:])
    with pytest.raises(GeometryError):
        ablate_case(segmenter, image, cut, case="ball", replacements=["one"])


@pytest.mark.parametrize(("dims", "gate"), [(3, "grid"), (3, "multi"), (2, "additive")])
def test_a_real_model_is_ablated(dims, gate, make_model):
    model = Segmenter.load(make_model(dims, gate=gate), device="cpu", raw=True)
    random = np.random.default_rng(0)
    _, image = model.read(random.normal(size=(18, 14, 9) if dims == 3 else (20, 17)).astype(np.float32))
    reference = model.predict(image, mirror=False).segmentation
    means = {"level2.1": 0.5, "level2.2": 0.5} if gate == "multi" else {"level2": 0.5}
    rows = ablate_case(model, image, reference, case="noise", means=means)
    assert {row.gate for row in rows} == {"level2"}  # one gate is all gates
    known = [row for row in rows if not isnan(row.before["Dice"])]
    assert known
    assert all(row.before["Dice"] == 1.0 for row in known)
    assert any(row.delta() < 0 for row in known)


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
        values = engine(patches).attention["level2"]
        assert values.shape == (len(patches), 2, 4, 3, 2)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, np.broadcast_to(np.reshape(expected, (1, 2, 1, 1, 1)), values.shape))


def test_shuffled_maps_are_the_windows_own_in_another_order():
    own, values = (
        engine(PATCHES).attention["level2"] for engine in (Two(), AblatedEngine(Two(), "shuffled", ["level2"]))
    )
    assert not np.array_equal(values, own)
    np.testing.assert_array_equal(np.sort(values.reshape(2, 2, -1)), np.sort(own.reshape(2, 2, -1)))
    np.testing.assert_array_equal(values[:, 0], -values[:, 1])  # two maps of one gate move together
    again = AblatedEngine(Two(), "shuffled", ["level2"])(PATCHES).attention["level2"]
    np.testing.assert_array_equal(values, again)
    other = AblatedEngine(Two(), "shuffled", ["level2"], seed=1)(PATCHES).attention["level2"]
    assert not np.array_equal(values, other)


def test_given_coefficients_take_precedence():
    given = np.full((2, 2, 4, 3, 2), 0.3, np.float32)
    assert AblatedEngine(Two(), "one", ["level2"])(PATCHES, {"level2": given}).attention["level2"] is given


@pytest.mark.parametrize(
    ("replacement", "gate", "means", "message"),
    [
        ("half", "level2", {}, "replacement 'half' is unknown"),
        ("mean", "level2", {"level3": 0.5}, "no mean of gate level2, only of level3"),
        ("one", "level7", {}, "no gate level7, its gates: level2"),
        ("mean", "level2", dict.fromkeys(("level2", "level2.1", "level2.2"), 0.5), "3 means for gate level2"),
    ],
)
def test_unknown_gates_and_missing_means_are_refused(replacement, gate, means, message):
    with pytest.raises(ConfigError, match=message) as caught:
        AblatedEngine(Two(), replacement, [gate], means=means)(PATCHES)
    assert caught.value.hint


def test_every_fold_is_altered_and_other_gates_are_not(segmenter, gated):
    altered = with_gates_replaced(segmenter, "one", ["level3"])
    assert gates_of(altered) == gates_of(segmenter) == ("level2", "level3")
    for engine in altered.engines:
        gated.received.clear()
        engine(PATCHES)
        assert [sorted(given) for given in gated.received] == [[], ["level3"]]
        assert engine.batch == gated.batch
        assert engine.name == "gated, level3 replaced (one)"


def test_members_get_their_own_gates(segmenter, gated_plan, make_plan_of):
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
