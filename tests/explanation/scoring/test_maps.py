"""Maps are named, cut and laid over another case so that left stays left."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.orientation import oriented, reorientation
from attunet.data.volume import Volume
from attunet.explanation.scoring.maps import case_scores, fitted, named_maps
from attunet.explanation.scoring.organs import Organs
from attunet.explanation.scoring.scores import map_statistics, score_map
from attunet.explanation.scoring.summary import TRAINED

STORED = list(product(permutations(range(3)), product([False, True], repeat=3)))
ALL = (slice(None), slice(None), slice(None))


def stored(volume, axes, flips):
    """The same image with its axes in another order and direction."""
    affine = volume.affine @ reorientation(axes, flips, volume.spatial_shape)
    return Volume(oriented(volume.array, axes, flips), affine)


def box(volume, axes, flips, content):
    """Where a box of the volume lies after it was stored so."""
    marked = np.zeros(volume.spatial_shape, bool)
    marked[content] = True
    where = np.argwhere(oriented(marked[None], axes, flips)[0])
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(where.min(0), where.max(0), strict=True))


@given(st.sampled_from(STORED), st.sampled_from(STORED))
def test_a_body_laid_over_itself_is_itself_however_stored(first, second):
    random = np.random.default_rng(0)
    body = Volume(random.random((2, 5, 4, 3), dtype=np.float32), np.diag([1.0, 1.2, 2.0, 1.0]))
    content = (slice(1, 5), slice(0, 3), slice(1, 3))
    one, other = stored(body, *first), stored(body, *second)
    target = box(body, *second, content)
    place = other.affine, other.spatial_shape, target
    np.testing.assert_array_equal(fitted(one, box(body, *first, content), place), other.array[:, *target])


@given(st.sampled_from(STORED), st.tuples(*[st.integers(1, 9)] * 3))
def test_a_map_is_stretched_over_the_other_box(how, shape):
    """A gradient from left to right stays one, whatever the size and the orientation of the other image."""
    ramp = np.linspace(0, 1, 40, dtype=np.float32)[None, :, None, None] * np.ones((1, 1, 6, 5), np.float32)
    target = stored(Volume(np.zeros((1, *shape), np.uint8), np.eye(4)), *how)
    found = fitted(Volume(ramp, np.eye(4)), ALL, (target.affine, target.spatial_shape, ALL))
    assert found.shape == (1, *target.spatial_shape)
    upright = stored(Volume(np.indices(shape)[:1].astype(np.float32), np.eye(4)), *how).array
    expected = ((upright + 0.5) / shape[0] * 40 - 0.5) / 39
    # Where it shrinks, the filter leans inwards at the edges.
    np.testing.assert_allclose(found, expected.clip(0, 1), atol=0.06)


def test_a_gate_of_two_maps_has_two_names():
    single, double = (Volume(np.random.default_rng(0).random((maps, 3, 3, 1)), np.eye(4)) for maps in (1, 2))
    named = named_maps({"level2": single, "net/level3": double})
    assert list(named) == ["level2", "net/level3.1", "net/level3.2"]
    np.testing.assert_array_equal(named["net/level3.2"].array[0], double.array[1])


@pytest.mark.parametrize("shape", [(8, 7, 6), (8, 7, 1)])
def test_all_numbers_of_a_case(shape):
    attention = Volume(np.random.default_rng(1).random((2, *shape)), np.eye(4))
    content = (slice(2, 8), slice(1, 6), slice(0, shape[2]))
    organ = np.zeros(shape, bool)[content]
    organ[1:3, 2:4] = True
    organs = Organs.of({"body": organ, "absent": np.zeros_like(organ)}, (1, 1, 1))
    rows = case_scores(TRAINED, "a", {"level3": attention}, content, organs)
    assert [(row.gate, row.label) for row in rows] == [
        (gate, label) for gate in ("level3.1", "level3.2") for label in ("", "body", "absent")
    ]
    assert {(row.source, row.case) for row in rows} == {(TRAINED, "a")}
    alpha = attention.array[1][content]
    assert rows[3].values == map_statistics(alpha)
    assert rows[4].values == score_map(alpha, organ, (1, 1, 1))
    alone = case_scores(TRAINED, "a", {"level3": attention}, content, None)
    assert [row.label for row in alone] == ["", ""]
