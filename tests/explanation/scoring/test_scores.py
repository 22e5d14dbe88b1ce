"""Every number is what its formula says, whatever the storage order of the image; ranks agree with scipy."""

from itertools import permutations
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation, distance_transform_edt
from scipy.stats import entropy, mannwhitneyu

from attunet.errors import DataError, GeometryError
from attunet.explanation.scoring.organs import Organs
from attunet.explanation.scoring.scores import (
    ATTENTION_METRICS,
    CHANCE,
    MAP_METRICS,
    auroc,
    map_statistics,
    order_keys,
    rank_map,
    score_map,
    score_organs,
    separation,
)

SPACINGS = st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 3.0])] * 3)


@st.composite
def cases(draw):
    """A map with ties, and an organ that has an outside."""
    shape = draw(st.tuples(st.integers(2, 6), st.integers(1, 5), st.integers(1, 4)))
    alpha = draw(arrays(np.float32, shape, elements=st.integers(0, 8).map(lambda value: value / 8)))
    return alpha, draw(arrays(bool, shape).filter(lambda mask: mask.any() and not mask.all()))


def by_the_formulas(alpha, organ, spacing, reach):
    total, inside, outside = alpha.sum(), alpha[organ].mean(), alpha[~organ].mean()
    peak = alpha == alpha.max()
    pairs = alpha[organ][:, None] - alpha[~organ][None]
    zone = distance_transform_edt(~(organ & binary_dilation(~organ)), sampling=spacing) <= reach + 1e-6
    share, boundary = (alpha[where].sum() / total if total else where.mean() for where in (organ, zone))
    return {
        "share": share,
        "volume_fraction": organ.mean(),
        "lift": share / organ.mean(),
        "pointing": organ[peak].mean(),
        "distance": distance_transform_edt(~organ, sampling=spacing)[peak].mean(),
        "auroc": (pairs > 0).mean() + (pairs == 0).mean() / 2,
        "average_precision": np.mean([organ[alpha >= value].mean() for value in alpha[organ]]),
        "inside": inside,
        "outside": outside,
        "contrast": inside - outside,
        "boundary_share": boundary,
        "boundary_lift": boundary / zone.mean(),
    }


@given(cases(), SPACINGS, st.sampled_from([0.0, 1.0, 5.0]))
def test_every_metric_is_its_formula(case, spacing, reach):
    alpha, organ = case
    expected = by_the_formulas(alpha.astype(float), organ, spacing, reach)
    scores = score_map(alpha, organ, spacing, reach=reach)
    assert scores == pytest.approx(expected, abs=1e-6)
    assert list(scores) == list(ATTENTION_METRICS)
    assert auroc(alpha, organ) == scores["auroc"]


@given(cases(), SPACINGS, st.sampled_from(list(permutations(range(3)))), st.tuples(*[st.booleans()] * 3))
def test_scores_do_not_depend_on_the_storage_order(case, spacing, axes, flips):
    alpha, organ = case
    steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    turned, moved = (array.transpose(axes)[steps] for array in (alpha, organ))
    expected = score_map(alpha, organ, spacing)
    assert score_map(turned, moved, tuple(spacing[axis] for axis in axes)) == pytest.approx(expected)
    assert map_statistics(turned) == pytest.approx(map_statistics(alpha))


@given(cases(), st.sampled_from([0.0, 0.3, 1.0]))
def test_a_constant_map_scores_chance(case, level):
    organ = case[1]
    scores = score_map(np.full(organ.shape, level), organ, (1, 1, 1))
    assert {name: scores[name] for name in CHANCE} == pytest.approx(CHANCE, abs=1e-6)
    for name in ("share", "pointing", "average_precision"):
        assert scores[name] == pytest.approx(organ.mean())


@given(cases())
def test_the_organ_itself_as_map_scores_full(case):
    organ = case[1]
    scores = score_map(organ.astype(float), organ, (1, 1, 1))
    full = ("share", "pointing", "auroc", "average_precision", "inside", "contrast")
    assert {name: scores[name] for name in full} == pytest.approx(dict.fromkeys(full, 1.0))
    assert (scores["distance"], scores["outside"]) == (0, 0)


@given(cases(), st.integers(0, 2**20))
def test_ignored_voxels_are_as_if_they_were_not_there(case, seed):
    alpha, organ = case
    ignored = np.random.default_rng(seed).random(alpha.shape) < 0.4
    kept = ~ignored
    if not (organ & kept).any():
        return
    counted = score_map(alpha, organ, (1, 1, 1), ignored=ignored)
    alone = score_map(alpha[kept].reshape(-1, 1, 1), organ[kept].reshape(-1, 1, 1), (1, 1, 1))
    placeless = [name for name in ATTENTION_METRICS if "boundary" not in name and name != "distance"]
    assert {name: counted[name] for name in placeless} == pytest.approx(
        {name: alone[name] for name in placeless}, nan_ok=True
    )
    altered = np.where(ignored, 1 - alpha, alpha)
    assert score_map(altered, organ, (1, 1, 1), ignored=ignored) == pytest.approx(counted, nan_ok=True)


def test_a_plateau_is_not_decided_by_the_order_of_the_array():
    alpha, organ = np.zeros((9, 1, 1)), np.zeros((9, 1, 1), bool)
    organ[2], alpha[[2, 6]] = True, 0.9
    scores = score_map(alpha, organ, (2.0, 1.0, 1.0))
    assert scores["pointing"] == 0.5
    assert scores["distance"] == pytest.approx((0 + 8) / 2)


def test_an_absent_organ_has_no_scores():
    alpha, empty = np.full((3, 3, 3), 0.5), np.zeros((3, 3, 3), bool)
    organs = Organs.of({"absent": empty, "some": np.eye(3, dtype=bool)[None].repeat(3, 0)}, (1, 1, 1))
    scores = score_organs(alpha, organs)
    assert all(map(isnan, scores["absent"].values()))
    assert scores["some"]["lift"] == pytest.approx(1)
    assert all(map(isnan, score_map(alpha, empty, (1, 1, 1)).values()))


def test_an_organ_that_fills_everything_has_no_outside():
    scores = score_map(np.random.default_rng(0).random((3, 3, 3)), np.ones((3, 3, 3), bool), (1, 1, 1))
    assert (scores["share"], scores["lift"], scores["pointing"], scores["distance"]) == (1, 1, 1, 0)
    assert all(isnan(scores[name]) for name in ("auroc", "outside", "contrast", "boundary_share", "boundary_lift"))


@given(arrays(np.float32, (4, 3, 5), elements=st.floats(0, 1, width=32)))
def test_the_statistics_of_a_map(alpha):
    found = map_statistics(alpha)
    assert list(found) == list(MAP_METRICS)
    values = alpha.astype(float)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["sd"] == pytest.approx(values.std(), abs=1e-6)
    assert 0 <= found["entropy"] <= 1
    if values.sum() > 1e-3:
        assert found["entropy"] == pytest.approx(entropy(values.ravel()) / np.log(values.size), abs=1e-4)
    assert found["closed"] == pytest.approx((alpha < 0.05).mean())
    assert found["open"] == pytest.approx((alpha > 0.95).mean())


def test_entropy_separates_uniform_from_one_voxel():
    point = np.zeros((4, 4, 4))
    point[1, 2, 3] = 0.7
    assert map_statistics(point)["entropy"] == pytest.approx(0, abs=1e-6)
    assert map_statistics(np.full((4, 4, 4), 0.7))["entropy"] == pytest.approx(1)
    assert map_statistics(np.zeros((4, 4, 4)))["entropy"] == 1


def test_values_outside_0_to_1_are_refused():
    organ = np.eye(3, dtype=bool)[None]
    with pytest.raises(DataError, match=r"from 0 to 2"):
        score_map(2.0 * organ, organ, (1, 1, 1))
    with pytest.raises(DataError, match="nan"):
        map_statistics(np.full((2, 2, 2), nan))
    with pytest.raises(DataError, match="one map at a time"):
        map_statistics(np.zeros((1, 2, 2, 2)))
    with pytest.raises(GeometryError, match="content box"):
        score_map(np.zeros((1, 3, 4)), organ, (1, 1, 1))
    assert score_map(organ * 1.00001, organ, (1, 1, 1))["inside"] == 1, "what rounding left outside is put back"


def ranking(values, organ):
    keys = order_keys(np.asarray(values, np.float32))
    return separation(np.sort(keys), keys[np.asarray(organ)])


@st.composite
def voxels(draw):
    """Values with many ties, and an organ that is neither empty nor all."""
    size = draw(st.integers(2, 30))
    values = draw(st.lists(st.integers(0, 6), min_size=size, max_size=size))
    organ = draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda o: any(o) and not all(o)))
    return np.array(values) / 6, np.array(organ)


@given(voxels())
def test_the_area_is_mann_whitneys(found):
    values, organ = found
    u = mannwhitneyu(values[organ], values[~organ]).statistic
    assert ranking(values, organ)[0] == pytest.approx(u / (organ.sum() * (~organ).sum()))


@given(voxels())
def test_the_precision_is_the_sum_over_thresholds(found):
    values, organ = found
    expected, before = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        chosen = values >= threshold
        recall = organ[chosen].sum() / organ.sum()
        expected += (recall - before) * organ[chosen].mean()
        before = recall
    assert ranking(values, organ)[1] == pytest.approx(expected)


@given(voxels())
def test_only_the_order_of_the_values_matters(found):
    values, organ = found
    assert ranking(values**3 * 0.5 + 0.1, organ) == pytest.approx(ranking(values, organ))
    area, _ = ranking(values, organ)
    assert ranking(1 - values, organ)[0] == pytest.approx(1 - area)


def test_rounding_errors_do_not_change_ranks():
    organ = np.arange(1000) < 300
    plateau = np.float32(1) - np.where(organ, 0, 3e-7).astype(np.float32)
    assert ranking(plateau, organ) == pytest.approx((0.5, 0.3))
    assert rank_map(plateau.reshape(10, 10, 10)).peak_voxels == 1000
    tiny = np.where(organ, 2e-7, 1e-7)
    assert ranking(tiny, organ) == (1.0, 1.0), "small values are told apart like large ones"


def test_without_two_sides_there_is_no_area():
    area, precision = ranking([0.2, 0.4], [True, True])
    assert isnan(area)
    assert precision == 1
    assert all(map(isnan, ranking([0.2, 0.4], [False, False])))


def test_minus_zero_is_zero():
    assert len(set(order_keys(np.array([0.0, -0.0], np.float32)))) == 1


def test_a_vast_plateau_is_sampled():
    ranked = rank_map(np.full((50, 40, 30), 0.25, np.float32))
    assert ranked.peak_voxels == 60000
    assert len(ranked.places) == 10000
    assert ranked.places.mean(axis=0) == pytest.approx([24.5, 19.5, 14.5], abs=0.5)
