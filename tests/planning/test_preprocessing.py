"""The model grid: dimensions, slice axis, spacing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attunet.data.modality import ChannelModality
from attunet.planning.options import BUDGETS, PlanOptions
from attunet.planning.preprocessing import clips, plan_dims, plan_grid, plan_normalization

LARGE = BUDGETS["large"]


def grid_of(facts, dims=3, budget=LARGE, options=None):
    reasons = {}
    grid = plan_grid(facts, dims, budget, options or PlanOptions(size="base"), reasons)
    assert {"slice_axis", "spacing"} <= reasons.keys()
    return grid, reasons


@pytest.mark.parametrize(
    ("shape", "dims"),
    [((64, 60, 40), 3), ((64, 60, 8), 3), ((64, 60, 7), 2), ((5, 200, 200), 2), ((64, 60, 1), 2)],
)
def test_thin_volumes_are_cut_into_slices(shape, dims, make_fingerprint):
    assert plan_dims(make_fingerprint(shape), PlanOptions(size="base"), {}) == dims


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((64, 60, 40), (1.0, 1.0, 1.0), 2),
        ((64, 60, 40), (1.0, 3.0, 1.0), 1),
        ((64, 60, 1), (0.5, 0.5, 0.2), 2),
        ((1, 60, 64), (0.5, 0.5, 0.5), 0),
        ((5, 200, 200), (1.0, 1.0, 1.0), 0),
    ],
)
def test_slices_are_cut_where_the_data_are_coarsest_or_thinnest(shape, spacing, axis, make_fingerprint):
    assert grid_of(make_fingerprint(shape, spacing))[0].slice_axis == axis


def test_spacing_and_shape_come_with_the_slice_axis_last(make_fingerprint):
    grid, _ = grid_of(make_fingerprint((20, 200, 180), (2.0, 1.0, 0.9)))
    assert grid.slice_axis == 0
    np.testing.assert_allclose(grid.spacing, (1.0, 0.9, 2.0))
    np.testing.assert_allclose(grid.shape, (200, 180, 20))


def test_a_very_coarse_axis_is_not_left_at_its_median(make_fingerprint):
    fine, coarse = make_fingerprint((64, 64, 20), (1, 1, 2.0)), make_fingerprint((64, 64, 20), (1, 1, 6.0))
    mixed = make_fingerprint()
    object.__setattr__(mixed, "cases", (*fine.cases, *coarse.cases, *coarse.cases))
    grid, reasons = grid_of(mixed)
    assert grid.spacing[2] == 2.0
    assert "10th percentile" in reasons["spacing"]


def test_large_volumes_are_coarsened_the_finest_axes_first(make_fingerprint):
    budget = BUDGETS["small"]
    grid, _ = grid_of(make_fingerprint((512, 512, 100), (0.5, 0.5, 2.0)), budget=budget)
    assert np.prod(grid.shape) <= 1.01 * budget.volume_voxels
    assert grid.spacing[2] == 2.0
    assert grid.spacing[0] == grid.spacing[1] > 0.5


def test_pictures_keep_their_pixels(make_fingerprint):
    grid, _ = grid_of(make_fingerprint((3000, 4000, 1), modality="image"), dims=2, budget=BUDGETS["small"])
    np.testing.assert_array_equal(grid.spacing, (1, 1, 1))


def test_low_resolution_lets_a_patch_see_a_quarter(make_fingerprint):
    facts = make_fingerprint((512, 512, 100), (0.5, 0.5, 2.0))
    for size in ("small", "base", "large"):
        grid, reasons = grid_of(facts, budget=BUDGETS[size], options=PlanOptions(size="base", resolution="low"))
        assert np.prod(grid.shape) <= 1.01 * 4 * BUDGETS[size].voxels[3]
        assert grid.resolution == "low"
        assert "covers a quarter" in reasons["resolution"]


def test_low_resolution_of_what_is_small_is_full(make_fingerprint):
    grid, reasons = grid_of(make_fingerprint(), options=PlanOptions(size="base", resolution="low"))
    assert grid.resolution == "full"
    assert "as it is" in reasons["resolution"]
    np.testing.assert_array_equal(grid.spacing, (1, 1, 1))


def test_full_resolution_is_never_coarsened(make_fingerprint):
    facts = make_fingerprint((512, 512, 100), (0.5, 0.5, 2.0))
    grid, _ = grid_of(facts, budget=BUDGETS["small"], options=PlanOptions(size="base", resolution="full"))
    np.testing.assert_array_equal(grid.spacing, (0.5, 0.5, 2.0))


def test_low_resolution_is_advised_where_a_patch_sees_little(make_fingerprint):
    _, reasons = grid_of(make_fingerprint((512, 512, 100), (0.5, 0.5, 2.0)), budget=BUDGETS["small"])
    assert "a patch covers 4% of the median image: try --resolution low" in reasons["resolution"]
    assert "--resolution low" not in grid_of(make_fingerprint())[1]["resolution"]


def test_pictures_can_be_coarsened_when_requested(make_fingerprint):
    facts = make_fingerprint((3000, 4000, 1), modality="image")
    grid, _ = grid_of(facts, dims=2, budget=BUDGETS["small"], options=PlanOptions(size="base", resolution="low"))
    assert grid.spacing[0] == grid.spacing[1] > 8
    assert grid.spacing[2] == 1


def test_each_channel_has_the_normalization_of_its_modality(make_fingerprint):
    facts = make_fingerprint(channels=2)
    ct, mr = ChannelModality("ct", "called CT", "declared"), ChannelModality("mr", "called MR", "declared")
    reasons: dict[str, str] = {}
    facts = replace(facts, modalities=(ct, mr), channel_names=("CT", "MR"))
    kinds = [entry.kind for entry in plan_normalization(facts, PlanOptions(), reasons)]
    assert kinds == ["ct", "zscore"]
    assert reasons["modality"] == "CT: ct, declared: called CT; MR: mr, declared: called MR"
    assert "other channels" in reasons["normalization"]
    assert not clips(facts, PlanOptions())
    assert clips(replace(facts, modalities=(ct, ct)), PlanOptions())


def test_ct_is_clipped_to_the_foreground(make_fingerprint):
    reasons = {}
    found = plan_normalization(make_fingerprint(modality="ct", channels=2), PlanOptions(size="base"), reasons)
    assert [entry.kind for entry in found] == ["ct", "ct"]
    assert 40 < found[0].lower < found[0].mean < found[0].upper < 160
    assert "clipped" in reasons["normalization"]


@pytest.mark.parametrize(("modality", "preset"), [("mr", "default"), ("image", "listing"), ("ct", "paper")])
def test_all_else_is_normalized_by_itself(modality, preset, make_fingerprint):
    reasons = {}
    found = plan_normalization(
        make_fingerprint(modality=modality, channels=3), PlanOptions(size="base", preset=preset), reasons
    )
    assert [entry.kind for entry in found] == ["zscore"] * 3
    assert "each case" in reasons["normalization"]
