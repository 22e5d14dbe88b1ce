"""Slab by slab gives what the whole grid gives: the same mask bit for bit, whatever the portions."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.config import Normalization, Preprocessing
from attunet.data.preprocess import prepare
from attunet.data.volume import Volume
from attunet.inference.case import plan_case, segment
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Chunking, Member
from attunet.inference.model_grid import predict_prepared
from attunet.inference.outputs import expected_dice, normalized
from attunet.inference.prediction import PredictOptions

LABELS = {"background": 0, "kidney_left": 5, "kidney_right": 3, "liver": 200}
ORIENTATIONS = [(axes, signs) for axes in permutations(range(3)) for signs in ((1, 1, 1), (-1, 1, -1), (1, -1, -1))]


class Textured:
    """Logits that vary from voxel to voxel and with the place in the window; coarse ones hold many ties."""

    name = "textured"

    def __init__(self, outputs, seed, *, coarse=False, batch=2):
        self.mix = np.random.default_rng(seed).normal(0, 2, (outputs, 3)).astype(np.float32)
        self.coarse, self.batch = coarse, batch

    def __call__(self, patches):
        seen = patches[:, :1]
        place = np.linspace(-1, 1, patches.shape[2], dtype=np.float32).reshape(1, 1, -1, *[1] * (patches.ndim - 3))
        parts = (seen, np.roll(seen, 1, axis=3), np.broadcast_to(place, seen.shape))
        logits = sum(
            np.expand_dims(self.mix[:, index], tuple(range(1, patches.ndim - 1)))[None] * part
            for index, part in enumerate(parts)
        )
        gate = 1 / (1 + np.exp(-seen))
        return EngineOutput(np.rint(logits) if self.coarse else logits, {"level2": gate[:, :, ::2], "level1": gate})


@st.composite
def problems(draw, plan):
    """Members of one task and a volume of any orientation, anisotropic, with an empty margin."""
    flat = draw(st.booleans())
    regions = draw(st.booleans())
    outputs = 3 if regions else 4
    fields = {
        "labels": LABELS,
        "regions": {"kidney_left": (5, 3, 200), "kidney_right": (3, 200), "liver": (200,)} if regions else {},
        "mirror_axes": draw(st.sampled_from([(), (0,), (0, 1)])),
    }
    slice_axis = draw(st.integers(0, 2))
    sided = 0 in fields["mirror_axes"] and not regions and slice_axis != 0
    fields["mirror_swaps"] = (("kidney_left", "kidney_right"),) if sided and draw(st.booleans()) else ()
    i, j = draw(st.tuples(st.integers(3, 8), st.integers(3, 8)))
    fields["patch_size"] = (i, j, 1 if flat else draw(st.integers(3, 6)))
    fields["preprocessing"] = Preprocessing(
        spacing=draw(st.tuples(*[st.sampled_from([0.7, 1.0, 1.5, 2.2])] * 3)),
        slice_axis=slice_axis,
        normalization=(Normalization(kind="zscore"),),
        crop_to_content=draw(st.booleans()),
    )
    plan = plan.model_copy(update=fields)
    engines = tuple(
        Textured(outputs, seed, coarse=draw(st.booleans()), batch=draw(st.integers(1, 3)))
        for seed in range(draw(st.integers(1, 2)))
    )
    return Member("one", plan, engines, draw(st.sampled_from([1.0, 1.7]))), draw(volumes())


@st.composite
def volumes(draw):
    shape = draw(st.tuples(*[st.integers(2, 14)] * 3))
    array = np.zeros(shape, np.int16)
    low = [draw(st.integers(0, size // 3)) for size in shape]
    inner = array[tuple(slice(start, None) for start in low)]
    inner[:] = np.random.default_rng(draw(st.integers(0, 99))).integers(1, 300, inner.shape)
    axes, signs = draw(st.sampled_from(ORIENTATIONS))
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(axes)] * signs * draw(st.tuples(*[st.sampled_from([0.6, 1.0, 1.5])] * 3))
    return Volume(array[None], affine)


chunkings = st.builds(
    Chunking,
    bands=st.integers(1, 4),
    planes=st.sampled_from([None, 1, 2, 5]),
    fill=st.integers(1, 4),
    rows=st.integers(1, 5),
)


@pytest.fixture(scope="module")
def plan(make_plan_of):
    return make_plan_of(labels=LABELS)


@settings(max_examples=30)
@given(data=st.data(), chunking=chunkings, step=st.floats(0.3, 1.0), mirror=st.booleans())
def test_slabs_and_bands_give_the_whole_grids_answer(data, chunking, step, mirror, plan, ask, decide, restore):
    member, volume = data.draw(problems(plan))
    how = PredictOptions(step_size=step, mirror=mirror, attention=True, probabilities=True)
    answer = ask([member], volume, how)
    planned = plan_case([member], volume, how)
    result = segment(replace(planned, chunking=chunking))
    np.testing.assert_array_equal(result.mask[0], decide(answer.probabilities, answer.record, member.plan))
    assert result.mask.dtype == np.uint8
    np.testing.assert_allclose(
        result.probabilities, normalized(restore(answer.probabilities, answer.record), member.plan), atol=2e-6
    )
    assert result.attention.keys() == answer.attention.keys()
    for gate, alpha in answer.attention.items():
        np.testing.assert_array_equal(result.attention[gate], alpha)
    expected = expected_dice(answer.probabilities, member.plan)
    assert {name: dice is None for name, dice in result.expected_dice.items()} == {
        name: dice is None for name, dice in expected.items()
    }
    for name, dice in expected.items():
        assert dice is None or result.expected_dice[name] == pytest.approx(dice, rel=1e-6)
    assert planned.content == answer.content


@settings(max_examples=8)
@given(data=st.data(), chunking=chunkings, mirror=st.booleans())
def test_members_of_other_grids_are_averaged(data, chunking, mirror, plan, ask, decide):
    one, volume = data.draw(problems(plan))
    other = data.draw(problems(plan).filter(lambda drawn: drawn[0].plan.regions == one.plan.regions))[0]
    members = [one, replace(other, name="two")]
    how = PredictOptions(step_size=0.6, mirror=mirror, attention=True, probabilities=True)
    answer = ask(members, volume, how)
    planned = plan_case(members, volume, how)
    result = segment(replace(planned, chunking=chunking))
    np.testing.assert_allclose(result.probabilities, answer.probabilities, atol=1e-5)
    certain = np.sort(answer.probabilities, axis=0)[-2:]
    clear = (np.abs(answer.probabilities - 0.5) > 1e-4).all(0) if one.plan.regions else certain[1] - certain[0] > 1e-4
    expected = decide(answer.probabilities, answer.record, one.plan)
    np.testing.assert_array_equal(result.mask[0][clear], expected[clear])
    for gate, alpha in answer.attention.items():
        np.testing.assert_allclose(result.attention[gate], alpha, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_windows_at_the_borders_of_bands_run_for_each(count, plan):
    member = Member("one", plan.model_copy(update={"patch_size": (8, 8, 8)}), (Textured(4, 0),))
    volume = Volume.from_array(np.random.default_rng(0).uniform(size=(40, 30, 9)))
    planned = plan_case([member], volume, PredictOptions())
    seen = []
    chunking = Chunking(bands=count)
    segment(replace(planned, chunking=chunking), seen.append)
    assert sum(seen) == planned.members[0].windows(chunking)
    assert (sum(seen) > planned.windows) == (count > 1)


def test_where_no_window_was_all_is_background(plan):
    member = Member("one", plan.model_copy(update={"patch_size": (8, 8, 8)}), (Textured(4, 0),))
    volume = Volume.from_array(np.random.default_rng(0).uniform(size=(40, 12, 9)))
    planned = plan_case([member], volume, PredictOptions(attention=True, probabilities=True))
    (case,) = planned.members
    fewer = case.tiling.without(start for start in case.tiling if start[0] < 20)
    chunking = Chunking(planes=3)
    result = segment(replace(planned, members=(replace(case, tiling=fewer),), chunking=chunking))
    first = min(start[0] for start in fewer)
    assert not result.mask[0, :first].any()
    assert (result.probabilities[0, :first] == 1).all()
    assert not result.attention["level2"][0, :first].any()
    whole = segment(planned)
    last = max(start[0] for start in set(case.tiling) - set(fewer)) + 8
    np.testing.assert_array_equal(result.mask[0, last:], whole.mask[0, last:])


@settings(max_examples=30)
@given(data=st.data(), mirror=st.booleans())
def test_on_the_model_grid_the_numbers_are_those_of_the_whole_grid(data, mirror, plan, whole_grid, decide):
    member, volume = data.draw(problems(plan))
    options = PredictOptions(step_size=0.6, mirror=mirror, attention=True)
    prepared = prepare(volume, member.plan.preprocessing)
    output = predict_prepared(member, prepared, options)
    probabilities, attention = whole_grid(member, prepared.array, options)
    np.testing.assert_array_equal(output.probabilities, probabilities)
    assert output.attention.keys() == attention.keys()
    for gate, alpha in attention.items():
        np.testing.assert_array_equal(output.attention[gate], alpha)
    np.testing.assert_array_equal(output.mask, decide(probabilities, prepared.record, member.plan))
