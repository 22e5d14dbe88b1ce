"""Maps are named, cut and laid over another case so that left stays left; the null of other cases is kept apart."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attunet.data.formats import write_volume
from attunet.data.orientation import oriented, reorientation
from attunet.data.volume import Volume
from attunet.explanation.scoring.case_maps import (
    CaseMaps,
    MapGrid,
    case_scores,
    fit_maps,
    named_maps,
    other_case_indices,
    other_case_scores,
)
from attunet.explanation.scoring.organs import Organs
from attunet.explanation.scoring.scores import ATTENTION_METRICS, map_statistics, score_map
from attunet.explanation.scoring.summary import OTHER_CASES, TRAINED

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
    grid = MapGrid(other.affine, other.spatial_shape, target)
    np.testing.assert_array_equal(fit_maps(one, box(body, *first, content), grid), other.array[:, *target])


@given(st.sampled_from(STORED), st.tuples(*[st.integers(1, 9)] * 3))
def test_a_map_is_stretched_over_the_other_box(how, shape):
    """A gradient from left to right stays one, whatever the size and the orientation of the other image."""
    ramp = np.linspace(0, 1, 40, dtype=np.float32)[None, :, None, None] * np.ones((1, 1, 6, 5), np.float32)
    target = stored(Volume(np.zeros((1, *shape), np.uint8), np.eye(4)), *how)
    found = fit_maps(Volume(ramp, np.eye(4)), ALL, MapGrid(target.affine, target.spatial_shape, ALL))
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


def case_maps(name, array, organ, *, flip=False, folder=None):
    """A case with one gate, whose map is `array` (C, I, J, K); stored from left to right or the other way."""
    affine = np.diag([-1.0 if flip else 1.0, 1.0, 1.0, 1.0])
    volume = Volume(array[:, ::-1] if flip else array, affine)
    masks = {"blob": organ[::-1] if flip else organ, "absent": np.zeros_like(organ)}
    source = lambda: volume  # noqa: E731
    if folder:
        source = folder / f"{name}_level2.nii.gz"
        write_volume(volume, source)
    everything = tuple(slice(0, size) for size in organ.shape)
    grid = MapGrid(volume.affine, volume.spatial_shape, everything)
    return CaseMaps(name, grid, {"level2": source}, lambda: Organs.of(masks, (1, 1, 1)))


def blob(shape, start):
    mask = np.zeros(shape, bool)
    mask[start : start + 2, 1:3] = True
    return mask


@given(st.integers(1, 40), st.integers(1, 5))
def test_each_case_lends_its_maps_equally_often_and_never_to_itself(cases, count):
    lent = [other_case_indices(index, cases, count) for index in range(cases)]
    for index, others in enumerate(lent):
        assert index not in others
        assert len(set(others)) == len(others) <= count
        assert all(0 <= other < cases for other in others)
    assert len(lent[0]) == min(count, cases - 1)
    assert set(np.bincount([other for others in lent for other in others], minlength=cases)) <= {len(lent[0])}


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_case_is_scored_by_the_maps_of_others(tmp_path, on_disk):
    shape, folder = (10, 6, 4), tmp_path if on_disk else None
    masks = [blob(shape, start) for start in (0, 5, 8)]
    # The third is stored from right to left; in the patient its map lies where the others' do.
    cases = [
        case_maps(name, mask[None].astype(np.float32), mask, flip=name == "c", folder=folder)
        for name, mask in zip("abc", masks, strict=True)
    ]
    rows = {(row.case, row.label): row for row in other_case_scores(cases)}
    assert {(row.source, row.gate) for row in rows.values()} == {(OTHER_CASES, "level2")}
    assert set(rows) == {(case, label) for case in "abc" for label in ("blob", "absent")}
    for index, case in enumerate("abc"):
        lent = [score_map(masks[other], masks[index], (1, 1, 1)) for other in range(3) if other != index]
        expected = {metric: np.mean([scores[metric] for scores in lent]) for metric in ATTENTION_METRICS}
        assert rows[case, "blob"].values == pytest.approx(expected)
        assert rows[case, "blob"].values["lift"] == 0
    assert all(np.isnan(value) for value in rows["a", "absent"].values.values())


def test_maps_of_other_shapes_and_two_maps_fit():
    random = np.random.default_rng(0)
    shapes = [(10, 6, 1), (7, 9, 1), (20, 12, 1)]
    cases = [
        case_maps(str(index), random.random((2, *shape), dtype=np.float32), blob(shape, 2))
        for index, shape in enumerate(shapes)
    ]
    rows = list(other_case_scores(cases, count=2))
    assert {row.gate for row in rows} == {"level2.1", "level2.2"}
    known = [row.values["lift"] for row in rows if row.label == "blob"]
    assert len(known) == 6
    assert all(0.2 < lift < 2 for lift in known)


def test_a_single_case_or_one_without_organs_has_no_others():
    shape = (6, 6, 2)
    case = case_maps("a", np.ones((1, *shape), np.float32), blob(shape, 1))
    assert not list(other_case_scores([case]))
    bare = CaseMaps("b", case.grid, case.maps, lambda: None)
    empty = case_maps("c", np.ones((1, *shape), np.float32), np.zeros(shape, bool))
    assert {row.case for row in other_case_scores([case, bare, empty])} == {"a"}
