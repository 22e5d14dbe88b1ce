"""The strongest class without resizing the classes: the same, bit for bit, as with."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.data.argmax_resample import agreed_class, resample_above, resample_argmax, resample_regions, sample_points
from attunet.data.resample import Resizing, resize

SIZES = st.tuples(*[st.integers(1, 11)] * 3)
SHARP = np.float32(2**-23)


def reference(logits, shape):
    """Every class resized in whole, one after the other: what this module is measured against."""
    best = np.array(resize(logits[0], shape))
    winner = np.zeros(shape, dtype=int)
    for index, channel in enumerate(logits[1:], start=1):
        strength = resize(channel, shape)
        np.copyto(winner, index, where=strength > best)
        np.maximum(best, strength, out=best)
    return winner


def smooth(random, classes, shape):
    """Logits as a network's: classes in patches, with boundaries and junctions between them."""
    coarse = tuple(max(1, size // 4) for size in shape)
    return resize(random.normal(size=(classes, *coarse)) * 4, shape)


CONTENTS = {
    "noise": lambda random, classes, shape: random.normal(size=(classes, *shape)),
    "steps": lambda random, classes, shape: random.integers(-2, 2, (classes, *shape)).astype(float),
    "zeros of both signs": lambda random, classes, shape: random.choice([-0.0, 0.0], (classes, *shape)),
    "near ties": lambda random, classes, shape: 3 + random.integers(0, 4, (classes, *shape)) * SHARP,
    "one class": lambda random, classes, shape: np.eye(classes)[random.integers(0, classes, shape)].transpose(
        3, 0, 1, 2
    ),
    "tiny": lambda random, classes, shape: random.normal(size=(classes, *shape)) * 1e-42,
    "network": smooth,
}


def voxel_by_voxel(single):
    """With it, ambiguous voxels are always interpolated one by one, however many they are."""
    return {"most_ambiguous": 2.0} if single else {}


def slabs(rows, size):
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


@pytest.mark.parametrize("content", CONTENTS)
@settings(max_examples=60, deadline=None)
@given(
    old=SIZES,
    new=SIZES,
    classes=st.integers(1, 6),
    dtype=st.sampled_from((np.float32, np.float64)),
    size=st.integers(1, 11),
    single=st.booleans(),
    seed=st.integers(0, 999),
)
def test_the_strongest_is_the_argmax_of_the_resized_classes(content, old, new, classes, dtype, size, single, seed):
    logits = CONTENTS[content](np.random.default_rng(seed), classes, old).astype(dtype)
    resizing = Resizing.between(old, new)
    options = voxel_by_voxel(single)
    found = np.concatenate([resample_argmax(logits, resizing, rows, **options) for rows in slabs(new[0], size)])
    np.testing.assert_array_equal(found, reference(logits, new))


@pytest.mark.parametrize(("old", "new"), [((20, 18, 16), (37, 33, 16)), ((20, 18, 16), (9, 40, 31))])
def test_many_classes_as_of_a_network(old, new):
    logits = smooth(np.random.default_rng(0), 300, old).astype(np.float32)
    found = resample_argmax(logits, Resizing.between(old, new), slice(0, new[0]))
    np.testing.assert_array_equal(found, reference(logits, new))
    assert found.dtype == np.uint16


def test_views_in_any_order_of_memory_are_read():
    stored = smooth(np.random.default_rng(1), 4, (9, 8, 7)).astype(np.float32)
    logits = np.asfortranarray(stored.transpose(0, 3, 1, 2))[:, ::-1]
    new = (12, 20, 9)
    found = resample_argmax(logits, Resizing.between(logits.shape[1:], new), slice(0, 12))
    np.testing.assert_array_equal(found, reference(logits, new))


@pytest.mark.parametrize("content", ["noise", "steps", "near ties", "network"])
@settings(max_examples=60, deadline=None)
@given(
    old=SIZES,
    new=SIZES,
    dtype=st.sampled_from((np.float32, np.float64)),
    size=st.integers(1, 11),
    single=st.booleans(),
    seed=st.integers(0, 999),
)
def test_above_is_resizing_and_comparing(content, old, new, dtype, size, single, seed):
    random = np.random.default_rng(seed)
    array = CONTENTS[content](random, 1, old)[0]
    if content == "near ties":  # 3 and some last digits become 0.5 and some last digits
        array = array / 6
    array = array.astype(dtype)
    resizing = Resizing.between(old, new)
    options = voxel_by_voxel(single)
    found = np.concatenate([resample_above(array, resizing, rows, 0.5, **options) for rows in slabs(new[0], size)])
    np.testing.assert_array_equal(found, resize(array, new) > 0.5)
    assert found.dtype == bool


def test_regions_are_painted_in_order():
    likely = np.zeros((3, 4, 1, 1), dtype=np.float32)
    likely[0, :3] = likely[1, 1:3] = likely[2, 2] = 1
    found = resample_regions(likely, Resizing.between((4, 1, 1), (8, 1, 1)), slice(1, 8))
    assert found.ravel().tolist() == [1, 2, 2, 3, 3, 0, 0]


def test_memory_does_not_grow_with_the_classes():
    old, new = (24, 40, 40), (48, 80, 80)

    def peak(classes):
        logits = smooth(np.random.default_rng(0), classes, old)
        resizing = Resizing.between(old, new)
        tracemalloc.start()
        for rows in slabs(new[0], 8):
            resample_argmax(logits, resizing, rows)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    slab = 8 * 80 * 80
    assert peak(40) < 40 * slab  # a float32 for each class would be 160
    assert peak(80) < 1.5 * peak(40)


@settings(max_examples=80, deadline=None)
@given(
    old=SIZES, new=SIZES, dtype=st.sampled_from((np.float16, np.float32, np.float64, np.int16)), seed=st.integers(0, 99)
)
def test_points_have_the_very_numbers_of_the_whole(old, new, dtype, seed):
    random = np.random.default_rng(seed)
    array = (random.normal(size=old) * 100).astype(dtype)
    whole = resize(array, new)
    chosen = np.flatnonzero(random.random(whole.size) < 0.5)
    points = sample_points(Resizing.between(old, new), chosen)
    found = points.interpolate(array)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, whole.reshape(-1)[chosen])
    some = np.flatnonzero(random.random(len(chosen)) < 0.5)
    np.testing.assert_array_equal(points.take(some).interpolate(array), found[some])


@settings(max_examples=80, deadline=None)
@given(old=SIZES, new=SIZES, seed=st.integers(0, 99))
def test_corners_agree_where_every_code_is_all_or_nothing(old, new, seed):
    codes = np.random.default_rng(seed).integers(0, 3, old).astype(np.uint8)
    shares = np.stack([resize((codes == code).astype(np.float32), new) for code in range(3)])
    expected = np.where((shares > 0).sum(axis=0) == 1, shares.argmax(axis=0), 3)
    agreed = agreed_class(codes, Resizing.between(old, new), 3)
    np.testing.assert_array_equal(agreed, expected)
    assert agreed.dtype == np.uint8


def test_what_is_mixed_stays_mixed_and_spreads():
    codes = np.array([0, 0, 7, 0], dtype=np.uint8).reshape(4, 1, 1)
    assert agreed_class(codes, Resizing.between((4, 1, 1), (8, 1, 1)), 7).ravel().tolist() == [0, 0, 0, 7, 7, 7, 7, 0]
