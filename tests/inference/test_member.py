"""Members: folds averaged on the model grid, members on the image's, left and right exchanged in the mirror."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.data.volume import Volume
from attunet.inference.case import plan_case, segment
from attunet.inference.engines.protocol import EngineOutput
from attunet.inference.member import Chunking, Member
from attunet.inference.prediction import PredictOptions
from attunet.inference.segmenter import Segmenter

LABELS = {"background": 0, "kidney_left": 1, "kidney_right": 2}
SHAPE = (16, 12, 8)


class Constant:
    """The same logits everywhere."""

    name = "constant"
    batch = 2

    def __init__(self, *logits):
        self.logits = np.array(logits, np.float32)

    def __call__(self, patches):
        shape = (len(patches), len(self.logits), *patches.shape[2:])
        logits = np.broadcast_to(self.logits[None, :, None, None, None], shape)
        return EngineOutput(logits, {"level2": np.full((len(patches), 1, *patches.shape[2:]), self.logits[0])})


class Sides:
    """Sees a left kidney in the first half of the first axis and a right one in the second, whatever lies there."""

    name = "sides"
    batch = 2

    def __call__(self, patches):
        logits = np.zeros((len(patches), 3, *patches.shape[2:]), np.float32)
        middle = patches.shape[2] // 2
        logits[:, 1, :middle] = logits[:, 2, middle:] = 9
        return EngineOutput(logits, {})


def volume(shape=SHAPE):
    return Volume.from_array(np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32))


def says(members, image=None, **how):
    """What the members make of an image together, and where attention is known."""
    planned = plan_case(members, image or volume(), PredictOptions(probabilities=True, **how))
    return segment(planned), planned.content


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def test_folds_are_averaged_as_probabilities(make_plan_of):
    plan = make_plan_of()
    one, other = np.array([2.0, 0, 0]), np.array([0, 0, 1.0])
    answer, _ = says([Member("m", plan, (Constant(*one), Constant(*other)))], attention=True)
    expected = (softmax(one) + softmax(other)) / 2
    np.testing.assert_allclose(answer.probabilities[:, 3, 3, 3], expected, rtol=1e-5)
    np.testing.assert_allclose(answer.attention["level2"], 1.0, rtol=1e-5)


def test_members_of_other_grids_are_averaged_on_the_images(make_plan_of):
    fine, coarse = make_plan_of(), make_plan_of(2, spacing=(2.0, 2.0, 3.0))
    one, other = np.array([2.0, 0, 0]), np.array([0, 0, 1.0])
    flat = Constant(*other)
    flat_engine = type("Flat", (), {"name": "flat", "batch": 2, "__call__": lambda _, x: flatten(flat(x[..., None]))})()
    answer, _ = says([Member("3d", fine, (Constant(*one),)), Member("2d", coarse, (flat_engine,))], attention=True)
    assert answer.probabilities.shape == (3, *SHAPE)
    np.testing.assert_allclose(answer.probabilities[:, 3, 3, 3], (softmax(one) + softmax(other)) / 2, rtol=1e-4)
    assert {name: alpha.shape for name, alpha in answer.attention.items()} == {
        "3d/level2": (1, *SHAPE),
        "2d/level2": (1, *SHAPE),
    }


def test_attention_is_known_where_every_member_sees_content(make_plan_of):
    cropping, whole = make_plan_of(), make_plan_of()
    whole = whole.model_copy(
        update={"preprocessing": whole.preprocessing.model_copy(update={"crop_to_content": False})}
    )
    image = np.zeros((20, 18, 12), np.float32)
    content = (slice(2, 18), slice(4, 18), slice(0, 9))
    image[content] = 1 + np.random.default_rng(0).uniform(size=(16, 14, 9))
    members = [Member(name, plan, (Constant(1.0, 0, 0),)) for name, plan in (("a", whole), ("b", cropping))]
    for names, expected in ((members, content), (members[:1], tuple(slice(0, n) for n in image.shape))):
        answer, known = says(names, Volume.from_array(image), attention=True)
        assert known == expected
        assert all((alpha[:, *expected] > 0).all() for alpha in answer.attention.values())


def flatten(output):
    return EngineOutput(output.logits[..., 0], {name: alpha[..., 0] for name, alpha in output.attention.items()})


def test_the_temperature_divides_the_logits(make_plan_of):
    answer, _ = says([Member("m", make_plan_of(), (Constant(2.0, 0, 1.0),), temperature=2.0)])
    np.testing.assert_allclose(answer.probabilities[:, 0, 0, 0], softmax(np.array([1.0, 0, 0.5])), rtol=1e-5)


@pytest.mark.parametrize("swaps", [(), (("kidney_left", "kidney_right"),)])
def test_left_and_right_change_places_in_the_mirror(swaps, make_plan_of):
    """A network that knows the sides by place agrees with its mirrored copy only when the two are exchanged."""
    plan = make_plan_of(labels=LABELS, mirror_axes=(0, 1), mirror_swaps=swaps)
    likely, plain = (says([Member("m", plan, (Sides(),))], mirror=mirror)[0].probabilities for mirror in (True, False))
    if swaps:
        np.testing.assert_allclose(likely, plain, atol=1e-5)
    else:
        assert np.abs(likely - plain).max() > 0.2


def test_progress_counts_the_windows_of_all(make_plan_of):
    plan, seen = make_plan_of(mirror_axes=(0, 1, 2)), []
    members = [Member("a", plan, (Constant(1, 0, 0),) * 2), Member("b", plan, (Constant(1, 0, 0),))]
    Segmenter(tuple(members)).predict(volume((20, 12, 8)), progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (6, 6)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_coefficient_stands_for_the_product_of_the_strides(dims, make_plan_of):
    plan = make_plan_of(dims)
    network = plan.network.model_copy(update={"strides": ((1, 2, 2)[-dims:], (2, 2, 3)[-dims:])})
    depth = 1 if dims == 2 else None
    expected = {"level1": (1, 1, 1), "level2": (1, 2, 2), "level3": (2, 4, 6)}
    assert plan.model_copy(update={"network": network}).level_strides == {
        level: stride if depth is None else (*stride[-2:], depth) for level, stride in expected.items()
    }


class Same:
    """Logits that are the image, three times."""

    name, batch = "same", 2

    def __call__(self, patches):
        return EngineOutput(np.concatenate([patches, 2 * patches, -patches], axis=1), {"level1": np.tanh(patches) ** 2})


@pytest.mark.parametrize("planes", [None, 1, 3])
def test_slabs_meet_in_one_plane_and_add_up_to_the_whole(planes, make_plan_of, whole_grid):
    member = Member("one", make_plan_of(), (Same(), Same()))
    image = Volume.from_array(np.random.default_rng(0).uniform(size=(40, 12, 9)))
    options, chunking = PredictOptions(attention=True), Chunking(bands=2, planes=planes)
    (case,) = plan_case([member], image, options).members
    likely, attention = whole_grid(member, case.prepared.array, options)
    expected = likely.transpose(0, *(axis + 1 for axis in case.tiling.axes))
    alphas = attention["level1"].transpose(0, *(axis + 1 for axis in case.tiling.axes))
    for band in case.bands(chunking):
        done = 0
        for slab, _ in case.slabs(band, options, chunking, lambda _: None):
            part = slab.probabilities
            assert part.first == max(0, done - 1)
            assert slab.known == min(done, 1)
            assert slab.fresh(slice(0, 99)).shape[1] == part.stop - done
            assert planes is None or slab.fresh(slice(0, 99)).shape[1] <= planes
            np.testing.assert_array_equal(part.array, expected[:, part.first : part.stop, band.sources])
            alpha = slab.attention["level1"].array
            np.testing.assert_array_equal(alpha, alphas[:, part.first : part.stop, band.sources])
            done = part.stop
        assert done == expected.shape[1]
