"""Curves of a network whose needs are known: a gate that marks them beats random blobs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from attunet.errors import ConfigError, GeometryError
from attunet.explanation.interventions.faithfulness import (
    CONTROL,
    MEAN,
    SHARES,
    Curve,
    blobs,
    blurred,
    delete_and_insert,
    mixed,
    predictions_needed,
    voxel_order,
)
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)

SEEDS = st.integers(0, 2**32 - 1)


def noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@given(SHAPES, SEEDS, st.integers(1, 5))
def test_a_ranking_holds_every_voxel_once_the_highest_first(shape, seed, levels):
    random = np.random.default_rng(seed)
    alpha, ties = random.integers(levels, size=shape).astype(np.float32), noise(shape, seed)
    order = voxel_order(alpha, ties)
    assert sorted(order) == list(range(alpha.size))
    pairs = list(zip(-alpha.ravel()[order], -ties.ravel()[order], strict=True))
    assert pairs == sorted(pairs)


def test_a_constant_map_ranks_as_the_blobs_do():
    field = noise((6, 5, 4))
    uneven = np.full_like(field, 0.5) + np.float32(1e-7) * noise(field.shape, 1)  # as stitching leaves it
    np.testing.assert_array_equal(voxel_order(uneven, field), voxel_order(np.full_like(field, 0.1), field))
    assert (np.diff(field.ravel()[voxel_order(uneven, field)]) <= 0).all()


@given(SHAPES, SEEDS, st.floats(0, 1))
def test_a_share_comes_from_the_other_image_in_all_channels(shape, seed, share):
    image, other, field = np.zeros((2, *shape), np.float32), np.ones((2, *shape), np.float32), noise(shape, seed)
    result = mixed(image, other, np.argsort(-field, axis=None), share)
    np.testing.assert_array_equal(result[0], result[1])
    taken = result[0] == 1
    assert taken.sum() == round(share * field.size)
    if taken.any() and not taken.all():
        assert field[taken].min() >= field[~taken].max()
    assert not image.any()


@pytest.mark.parametrize("shape", [(2, 40, 48, 24), (1, 90, 60, 1)])
def test_the_blurred_image_is_a_gaussian_of_an_eighth(shape):
    grid = np.indices(shape[1:]).sum(axis=0)
    image = (noise(shape) + np.sin(grid / 9)).astype(np.float32)
    found = blurred(image)
    assert found.shape == shape
    assert found.dtype == np.float32
    sigma = [0, *(size / 8 if size > 1 else 0 for size in shape[1:])]
    expected = ndimage.gaussian_filter(image, sigma, mode="reflect")
    assert np.abs(found - expected).max() < 0.03 * image.std()
    assert found.std() < image.std() / 2


@pytest.mark.parametrize("sigma", [1.0, (1.0, 2.0, 3.0)])
def test_blobs_are_as_coarse_as_the_map(sigma):
    like = ndimage.gaussian_filter(noise((48, 48, 48)), sigma, mode="wrap")
    found = blobs(like, np.random.default_rng(3))
    for axis in range(3):
        steps = [np.square(np.diff(field, axis=axis)).mean() / field.var() for field in (like, found)]
        assert steps[0] == pytest.approx(steps[1], rel=0.25)
    assert abs(np.corrcoef(like.ravel(), found.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("like", [np.full((8, 8, 1), 0.5, np.float32), noise((9, 9, 1)), np.indices((8, 6, 4))[0] % 2])
def test_blobs_of_any_map_are_finite_and_vary(like):
    found = blobs(like.astype(np.float32), np.random.default_rng(0))
    assert np.isfinite(found).all()
    assert found.shape == like.shape
    assert found.min() == 0
    assert len(np.unique(found)) == found.size


def by_name(curves):
    return {(curve.gate, curve.kind): curve for curve in curves}


def test_a_gate_that_marks_the_ball_beats_blobs(segmenter, bright_ball):
    steps = []
    curves = delete_and_insert(segmenter, *bright_ball, case="ball", advance=lambda *counts: steps.append(counts))
    assert {curve.label for curve in curves} == {"body"}  # no lesion in the reference
    found = by_name(curves)
    assert set(found) == {(gate, kind) for gate in ("level2", "level3", MEAN, CONTROL) for kind in KINDS}
    assert [steps[0], steps[-1]] == [(1, 58), (58, 58)]
    assert predictions_needed(segmenter) == 58 == 2 + 2 * 7 * 4
    for gate in ("level2", MEAN):
        assert found[gate, "deletion"].area < found[CONTROL, "deletion"].area - 0.1
        assert found[gate, "insertion"].area > found[CONTROL, "insertion"].area + 0.1
    # a gate that is alike everywhere says what the blobs say
    for kind in KINDS:
        assert found["level3", kind].dice == found[CONTROL, kind].dice
    whole, nothing = found["level2", "deletion"].dice[0], found["level2", "deletion"].dice[-1]
    assert whole == 1.0 > nothing
    assert found["level2", "insertion"].dice[::6] != found["level2", "deletion"].dice[::6]
    for gate in ("level2", CONTROL):
        assert (found[gate, "insertion"].dice[0], found[gate, "insertion"].dice[-1]) == (nothing, whole)


KINDS = ("deletion", "insertion")


def test_the_control_depends_on_case_and_seed_alone(segmenter, bright_ball):
    def control(**how):
        return by_name(delete_and_insert(segmenter, *bright_ball, **how))[CONTROL, "deletion"].dice

    first = control(case="ball")
    assert control(case="ball") == first
    assert control(case="other") != first or control(case="ball", seed=1) != first


def test_without_a_reference_its_own_mask_takes_the_place(segmenter, bright_ball):
    image, reference = bright_ball
    own = delete_and_insert(segmenter, image, case="ball")
    known = delete_and_insert(segmenter, image, reference, case="ball")
    assert {curve.against for curve in own} == {"own mask"}
    assert {curve.against for curve in known} == {"reference"}
    assert [curve.dice for curve in own] == [curve.dice for curve in known]  # the mask is right


def test_an_ignored_region_counts_nowhere(segmenter, bright_ball):
    image, reference = bright_ball
    (member,) = segmenter.members
    ignoring = Segmenter((replace(member, plan=member.plan.model_copy(update={"ignore_label": 9})),))
    masked = reference.array.copy()
    masked[:, 8:] = 9
    curves = delete_and_insert(ignoring, image, reference.with_array(masked), case="ball")
    assert by_name(curves)["level2", "deletion"].dice[0] == 1.0


def test_a_reference_without_labels_gives_no_curve(segmenter, bright_ball):
    image, reference = bright_ball
    steps = []
    empty = reference.with_array(np.zeros_like(reference.array))
    assert delete_and_insert(segmenter, image, empty, case="none", advance=lambda *counts: steps.append(counts)) == ()
    assert steps[-1] == (58, 58)
    assert delete_and_insert(segmenter, image, reference, case="none", annotated=["lesion"]) == ()


def test_members_are_tested_one_by_one(segmenter, bright_ball, make_plan_of, gated):
    (one,) = segmenter.members
    plain = Member("plain", make_plan_of(gate=None), (gated,))
    curves = delete_and_insert(Segmenter((one, replace(one, name="n"), plain)), *bright_ball, case="ball")
    assert {curve.gate.partition("/")[0] for curve in curves} == {"m", "n"}
    assert f"m/{CONTROL}" in {curve.gate for curve in curves}


def test_models_without_gates_and_other_grids_are_refused(bright_ball, make_plan_of, gated, segmenter):
    image, reference = bright_ball
    with pytest.raises(ConfigError, match="no gates"):
        delete_and_insert(Segmenter((Member("m", make_plan_of(gate=None), (gated,)),)), image, case="ball")
    with pytest.raises(GeometryError, match="case ball"):
        delete_and_insert(segmenter, image, reference.with_array(reference.array[:, 1:]), case="ball")


def test_the_area_is_a_trapezoid():
    curve = Curve("level2", "a", "body", "deletion", (0.0, 0.5, 1.0), (1.0, 0.5, 0.0))
    assert curve.area == 0.5
    assert json.loads(json.dumps(curve.to_json()))["area"] == 0.5
    assert (SHARES[0], SHARES[-1]) == (0, 1)
    assert list(SHARES) == sorted(set(SHARES))


@pytest.mark.parametrize(("dims", "gate"), [(3, "multi"), (2, "grid")])
def test_a_real_model_is_followed(dims, gate, make_model):
    model = Segmenter.load(make_model(dims, gate=gate), device="cpu", raw=True)
    random = np.random.default_rng(0)
    _, image = model.read(random.normal(size=(18, 14, 9) if dims == 3 else (20, 17)).astype(np.float32))
    curves = delete_and_insert(model, image, case="noise")
    assert {curve.gate for curve in curves} == {"level2", CONTROL}
    assert all(curve.dice[0] == 1.0 for curve in curves if curve.kind == "deletion")
    assert all(0 <= dice <= 1 for curve in curves for dice in curve.dice)
