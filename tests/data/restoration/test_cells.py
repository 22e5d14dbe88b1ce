"""Single voxels of a resized grid: the numbers that resizing all of it gives, and where the corners agree."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.data.resample import Resizing, resize
from attunet.data.restoration.cells import agreement, points_at

SIZES = st.tuples(*[st.integers(1, 11)] * 3)


@settings(max_examples=80, deadline=None)
@given(
    old=SIZES, new=SIZES, dtype=st.sampled_from((np.float16, np.float32, np.float64, np.int16)), seed=st.integers(0, 99)
)
def test_points_have_the_very_numbers_of_the_whole(old, new, dtype, seed):
    random = np.random.default_rng(seed)
    array = (random.normal(size=old) * 100).astype(dtype)
    whole = resize(array, new)
    chosen = np.flatnonzero(random.random(whole.size) < 0.5)
    points = points_at(Resizing.between(old, new), chosen)
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
    agreed = agreement(codes, Resizing.between(old, new), 3)
    np.testing.assert_array_equal(agreed, expected)
    assert agreed.dtype == np.uint8


def test_what_is_mixed_stays_mixed_and_spreads():
    codes = np.array([0, 0, 7, 0], dtype=np.uint8).reshape(4, 1, 1)
    assert agreement(codes, Resizing.between((4, 1, 1), (8, 1, 1)), 7).ravel().tolist() == [0, 0, 0, 7, 7, 7, 7, 0]
