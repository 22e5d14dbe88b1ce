import numpy as np
import pytest

from attunet.data.preprocess import IGNORED
from attunet.selection.samples import TEMPERATURES, Sample, draw_sample

SHAPE = (40, 40, 30)


@pytest.fixture
def plan(make_plan_of):
    return make_plan_of(labels={"background": 0, "blob": 7})


def scene(seed=0):
    """Probabilities that are right about a cube, but for some noise; the truth."""
    random = np.random.default_rng(seed)
    truth = np.zeros(SHAPE, np.uint8)
    truth[10:20, 10:20, 10:20] = 1
    likely = np.clip(np.where(truth == 1, 0.9, 0.05) + random.normal(0, 0.02, SHAPE), 0.01, 0.99).astype(np.float32)
    return np.stack([1 - likely, likely]), truth


def test_weights_stand_for_the_whole_case(plan):
    likely, truth = scene()
    sample = draw_sample("a", likely.copy(), truth, plan, "sum", voxels=4000)
    assert sample.weights.sum() == pytest.approx(truth.size, rel=0.01)
    share = np.average(sample.truth[1], weights=sample.weights)
    assert share == pytest.approx(truth.mean(), rel=0.15)
    assert sample.near.mean() == pytest.approx(0.5, abs=0.01)
    assert (sample.truth.sum(axis=0) == 1).all()


def test_the_logits_give_back_the_probabilities(plan):
    likely, truth = scene()
    sample = draw_sample("a", likely.copy(), truth, plan, "sum")
    back = np.exp(sample.logits) / np.exp(sample.logits).sum(axis=0)
    assert np.isin(np.round(back[1], 4), np.round(likely[1], 4)).mean() > 0.99


def test_the_same_case_gives_the_same_sample_and_another_one_another(plan):
    likely, truth = scene()
    first, same, other = (draw_sample(case, likely.copy(), truth, plan, "sum", 500) for case in "aab")
    assert np.array_equal(first.logits, same.logits)
    assert not np.array_equal(first.logits, other.logits)


def test_ignored_voxels_are_not_drawn(plan):
    likely, truth = scene()
    truth[:, :, 15:] = IGNORED
    sample = draw_sample("a", likely, truth, plan, "sum")
    assert sample.weights.sum() == pytest.approx(truth.size / 2, rel=0.01)


def test_an_empty_case_has_no_voxel_near_the_foreground(plan):
    likely = np.stack([np.full(SHAPE, 0.99), np.full(SHAPE, 0.01)]).astype(np.float32)
    sample = draw_sample("a", likely, np.zeros(SHAPE, np.uint8), plan, "sum")
    assert not sample.near.any()
    assert np.isnan(sample.expected_at(1.0)).all()


def test_regions_overlap(make_plan_of):
    plan = make_plan_of(labels={"background": 0, "whole": 1, "core": 2})
    network = plan.network.model_copy(update={"out_channels": 2})
    plan = plan.model_copy(update={"regions": {"whole": (1, 2), "core": (2,)}, "network": network})
    truth = np.zeros(SHAPE, np.uint8)
    truth[5:20, 5:20, 5:20], truth[10:15, 10:15, 10:15] = 1, 2
    likely = np.stack([truth > 0, truth == 2]).astype(np.float32) * 0.98 + 0.01
    sample = draw_sample("a", likely, truth, plan, "sum")
    assert ((sample.logits > 0) == sample.truth).all()
    assert (sample.truth[1] <= sample.truth[0]).all()


def test_it_is_written_and_read_without_pickle(plan, tmp_path):
    sample = draw_sample("a", *scene(), plan, "sum", 1000)
    sample.save(tmp_path / "a.npz")
    back = Sample.load(tmp_path / "a.npz")
    assert back.origin == "sum"
    assert np.allclose(back.logits, sample.logits, rtol=1e-3, atol=1e-3)
    assert np.array_equal(back.truth, sample.truth)
    assert Sample.load(tmp_path / "b.npz") is None
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    assert Sample.load(tmp_path / "c.npz") is None


def test_the_expected_dice_is_known_between_the_temperatures(plan):
    sample = draw_sample("a", *scene(), plan, "sum", 1000)
    low, high = (float(sample.expected_at(temperature)[0]) for temperature in TEMPERATURES[2:4])
    assert high < low
    assert high < float(sample.expected_at(1.2)[0]) < low
    assert sample.expected_at(TEMPERATURES[-1])[0] == sample.expected[-1][0]
