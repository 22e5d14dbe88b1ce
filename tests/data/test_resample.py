"""Resizing: torch's numbers, and labels that stay labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.data.resample import Resizing, gather, linear_weights, resize, resize_into, resize_labels
from attunet.errors import GeometryError

SIZES = st.tuples(*[st.integers(1, 13)] * 3)

LENGTHS = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(old=SIZES, new=SIZES, seed=st.integers(0, 99))
def test_resize_is_torch_linear_interpolation(old, new, seed):
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(seed).normal(size=(2, *old)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(array)[None], size=new, mode="trilinear")[0]
    np.testing.assert_allclose(resize(array, new), expected.numpy(), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(old=SIZES, new=st.tuples(st.integers(1, 13), st.integers(2, 13)), seed=st.integers(0, 99))
def test_antialias_is_torch_antialiased_bilinear(old, new, seed):
    # Two columns at least: torch 2.13 repeats one value over all rows of a result that is one column wide.
    torch = pytest.importorskip("torch")
    array = np.random.default_rng(seed).normal(size=(2, old[0], old[1], 1)).astype(np.float32)
    plane = torch.from_numpy(array[..., 0])[None]
    expected = torch.nn.functional.interpolate(plane, size=new, mode="bilinear", antialias=True)[0]
    result = resize(array, (new[0], new[1], 1), antialias=True)
    np.testing.assert_allclose(result[..., 0], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("antialias", [False, True])
def test_constant_stays_constant_and_contiguous(antialias):
    result = resize(np.full((3, 5, 4), 7, dtype=np.int16), (2, 9, 4), antialias=antialias)
    np.testing.assert_allclose(result, 7.0, rtol=1e-6)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous


def test_same_shape_returns_the_values_unchanged():
    array = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(resize(array, (3, 4, 5), antialias=True), array)


@settings(max_examples=60, deadline=None)
@given(old=SIZES, new=SIZES, seed=st.integers(0, 99))
def test_labels_are_the_argmax_of_resized_masks(old, new, seed):
    labels = np.random.default_rng(seed).choice(np.array([0, 3, 4, 255], dtype=np.uint8), size=old)
    values = np.unique(labels)
    shares = np.stack([resize((labels == value).astype(np.float32), new) for value in values])
    result = resize_labels(labels, new)
    chosen = np.take_along_axis(shares, np.searchsorted(values, result)[None], axis=0)[0]
    assert result.dtype == labels.dtype
    assert result.shape == new
    np.testing.assert_allclose(chosen, shares.max(axis=0), atol=1e-6)


def test_ties_go_to_the_lower_label():
    labels = np.array([5, 2], dtype=np.int32).reshape(2, 1, 1)
    assert resize_labels(labels, (1, 1, 1)).item() == 2


def test_same_shape_labels_are_a_copy():
    labels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    result = resize_labels(labels, (2, 2, 2))
    np.testing.assert_array_equal(result, labels)
    assert not np.shares_memory(result, labels)


@pytest.mark.parametrize(("array", "shape"), [((3, 3), (2, 2, 2)), ((3, 3, 3), (0, 2, 2)), ((3, 3, 3), (2, 2))])
def test_impossible_shapes_are_refused(array, shape):
    with pytest.raises(GeometryError, match="expected"):
        resize(np.zeros(array), shape)


def test_labels_with_channels_are_refused():
    with pytest.raises(GeometryError, match="expected"):
        resize_labels(np.zeros((1, 2, 2, 2), dtype=np.uint8), (2, 2, 2))


@pytest.mark.parametrize("antialias", [False, True])
@settings(max_examples=40, deadline=None)
@given(old=SIZES, new=SIZES, size=st.integers(1, 13), seed=st.integers(0, 99))
def test_slabs_are_the_very_numbers_of_the_whole(antialias, old, new, size, seed):
    array = np.random.default_rng(seed).normal(size=old).astype(np.float32)
    resizing = Resizing.between(old, new, antialias=antialias)
    whole = resizing(array)
    np.testing.assert_array_equal(whole, resize(array, new, antialias=antialias))
    for start in range(0, new[0], size):
        rows = slice(start, min(start + size, new[0]))
        np.testing.assert_array_equal(resizing.slab(array, rows), whole[rows])


@pytest.mark.parametrize(("old", "new"), [((150, 9, 8), (170, 11, 8)), ((150, 9, 8), (40, 7, 12))])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_any_layout_in_memory_gives_the_same_numbers(old, new, dtype):
    array = np.random.default_rng(0).integers(-1000, 1000, old).astype(dtype)
    expected = Resizing.between(old, new, antialias=True)(array)
    target = np.zeros(new[::-1], dtype=np.float32).T[:, ::-1]
    resize_into(target, np.asfortranarray(array)[:, ::-1][:, ::-1], antialias=True)
    np.testing.assert_array_equal(target, expected)
    part = np.zeros(new, np.float32)
    box = np.s_[5:31, 2:6, 1:7]
    resize_into(part, array, antialias=True, box=box)
    np.testing.assert_array_equal(part[box], expected[box])
    part[box] = 0
    assert not part.any(), "nothing is written outside the box"


@given(old=LENGTHS, new=LENGTHS, antialias=st.booleans())
def test_shares_are_positive_sum_to_one_and_keep_straight_lines_inside(old, new, antialias):
    interpolation = linear_weights(old, new, antialias=antialias)
    assert len(interpolation) == new
    assert interpolation.index.min() >= 0
    assert interpolation.index.max() < old
    assert interpolation.weights.min() >= 0
    np.testing.assert_allclose(interpolation.weights.sum(axis=0), 1, rtol=1e-6)
    line = (interpolation.weights * interpolation.index).sum(axis=0)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    reach = max(old / new, 1)
    inside = (centres >= reach - 0.5) & (centres <= old - 0.5 - reach)
    np.testing.assert_allclose(line[inside], centres[inside], atol=0.51 if antialias and new < old else 1e-4)


def test_known_shares():
    interpolation = linear_weights(2, 4)
    np.testing.assert_array_equal(interpolation.index[0], [0, 0, 0, 1])
    np.testing.assert_allclose(interpolation.weights, [[1, 0.75, 0.25, 1], [0, 0.25, 0.75, 0]])


@given(old=LENGTHS, new=LENGTHS)
def test_a_tap_without_weight_points_where_the_weight_is(old, new):
    interpolation = linear_weights(old, new)
    single = interpolation.weights[1] == 0
    np.testing.assert_array_equal(interpolation.index[1, single], interpolation.index[0, single])


@given(old=LENGTHS, new=LENGTHS, antialias=st.booleans(), data=st.data())
def test_a_part_makes_the_same_samples_from_what_it_reaches(old, new, antialias, data):
    start = data.draw(st.integers(0, new - 1))
    targets = slice(start, data.draw(st.integers(start + 1, new)))
    values = np.random.default_rng(old).normal(size=old)
    interpolation = linear_weights(old, new, antialias=antialias)
    sources = interpolation.reach(targets)
    part = interpolation.part(targets, sources)
    whole = (values[interpolation.index] * interpolation.weights).sum(axis=0)
    found = (values[sources][part.index] * part.weights).sum(axis=0)
    np.testing.assert_allclose(found, whole[targets], rtol=1e-12, atol=1e-15)


def test_what_lies_outside_a_part_counts_as_nothing():
    part = linear_weights(4, 8).part(slice(0, 8), slice(1, 2))
    np.testing.assert_allclose(
        (np.ones(1)[part.index] * part.weights).sum(axis=0), [0, 0.25, 0.75, 0.75, 0.25, 0, 0, 0]
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@given(shape=st.tuples(*[st.integers(1, 6)] * 3), data=st.data())
def test_gathering_is_taking(axis, shape, data):
    array = np.random.default_rng(0).integers(0, 99, shape).astype(np.uint8)
    index = np.array(data.draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=9)))
    result = gather(array, index, axis)
    np.testing.assert_array_equal(result, np.take(array, index, axis=axis))
    assert result.flags.c_contiguous
