"""The planner: whatever the data, a plan that can be trained, with a reason for every decision."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.config import Plan, load_settings
from attunet.errors import ConfigError
from attunet.nn import AttentionUNet
from attunet.planning.mirroring import Mirroring
from attunet.planning.options import BUDGETS, PlanOptions
from attunet.planning.planner import describe_labels, make_plan, summarize_fingerprint

DECISIONS = {
    "labels",
    "size",
    "spatial_dims",
    "resolution",
    "slice_axis",
    "spacing",
    "patch_size",
    "strides",
    "batch_size",
    "network",
    "modality",
    "normalization",
    "mirror_axes",
    "cascade",
}
GATES = {"default": (None, "grid", "multi", "additive", "none"), "paper": (None, "grid", "multi", "none")}


@st.composite
def sizes_and_spacings(draw):
    """From 5 x 7 x 9 to 512 x 512 x 1000 voxels of 0.2 to 8 mm, volumes and flat images."""
    lengths = st.one_of(st.integers(2, 24), st.integers(24, 1000))
    shape = draw(st.one_of(st.sampled_from([(5, 7, 9), (512, 512, 1000)]), st.tuples(lengths, lengths, lengths)))
    if draw(st.booleans()):
        shape = (*shape[:2], 1)
    spacing = draw(st.tuples(*[st.floats(0.2, 8.0)] * 3))
    return shape, spacing


@st.composite
def options(draw, flat):
    """Every combination that is allowed for such data."""
    preset = draw(st.sampled_from(["default", "paper", "listing"]))
    dims = (None, 2) if flat or preset == "listing" else (None, 2, 3)
    return PlanOptions(
        size=draw(st.sampled_from(list(BUDGETS))),
        preset=preset,
        gate=draw(st.sampled_from(GATES.get(preset, (None, "additive")))),
        spatial_dims=draw(st.sampled_from(dims)),
        resolution=draw(st.sampled_from(["auto", "full", "low"])),
        cascade=draw(st.sampled_from(["auto", "off", *(["on"] if preset == "default" else [])])),
    )


@settings(max_examples=20)
@given(data=st.data(), grid=sizes_and_spacings(), channels=st.integers(1, 5), classes=st.integers(2, 6))
def test_any_data_give_a_plan_that_can_be_trained(data, grid, channels, classes, make_fingerprint):
    flat = grid[0][2] == 1
    modality = data.draw(st.sampled_from(["ct", "mr", "other", *(["image"] if flat else [])]))
    regions = {f"label_{value}": tuple(range(value, classes)) for value in range(1, classes)}
    nested = data.draw(st.booleans())
    facts = make_fingerprint(
        *grid, channels=channels, modality=modality, classes=classes, regions=regions if nested else None
    )
    chosen = data.draw(options(flat))
    plan = make_plan(facts, chosen)
    dims = plan.network.spatial_dims
    assert dims == (chosen.spatial_dims or dims)
    assert set(plan.reasons) == DECISIONS
    assert all(plan.reasons.values())

    total = np.prod(plan.network.strides, axis=0)
    assert not (np.array(plan.patch_size[:dims]) % total).any()
    allowed = 1.6 * BUDGETS[chosen.size].voxels[dims]
    assert prod(plan.patch_size) <= allowed or plan.patch_size in ((*total, 1)[:3], (160, 160, 96))
    assert 2 <= plan.batch_size <= 32
    assert load_settings(Plan, plan.model_dump(mode="json")) == plan

    assert plan.network.in_channels == channels + len(plan.context)
    for stage in (plan, *([plan.coarse] if plan.localizer else [])):
        with torch.device("meta"):
            network = AttentionUNet.from_config(stage.network)
            inputs = torch.empty(1, stage.network.in_channels, *stage.patch_size[:dims])
            result = network(inputs, detailed=True)
        assert result.logits.shape == (1, classes - nested, *stage.patch_size[:dims])
        assert len(result.attention) == len(stage.network.gate_widths)


def test_a_plan_survives_its_file(make_fingerprint, tmp_path):
    plan = make_plan(make_fingerprint(modality="ct"), PlanOptions(size="base")).model_copy(update={"name": "Bäuche 🫁"})
    (tmp_path / "plan.json").write_text(plan.model_dump_json(indent=2))
    assert load_settings(Plan, tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((64, 60, 1), PlanOptions(size="base", spatial_dims=3), "images are 2-D"),
        ((64, 60, 40), PlanOptions(size="base", preset="listing", spatial_dims=3), "listing is a 2-D"),
        ((64, 60, 40), PlanOptions(size="base", preset="listing", gate="grid"), "additive gates"),
        ((64, 60, 40), PlanOptions(size="base", preset="paper", gate="additive"), "grid gates"),
    ],
)
def test_contradictions_are_refused(shape, options, message, make_fingerprint):
    with pytest.raises(ConfigError, match=message) as refused:
        make_plan(make_fingerprint(shape), options)
    assert refused.value.hint


def test_the_published_networks_are_planned_as_published(make_fingerprint):
    paper = make_plan(make_fingerprint(modality="ct"), PlanOptions(size="base", preset="paper"))
    assert (paper.network.channels, paper.network.gate) == ((16, 32, 64, 128, 256), "grid")
    assert paper.preprocessing.spacing == (2.0, 2.0, 2.0)
    assert paper.preprocessing.normalization[0].kind == "zscore"
    assert (paper.patch_size, paper.batch_size, paper.preprocessing.slice_axis) == ((160, 160, 96), 2, 2)
    assert paper.mirror_axes == (0, 1)
    listing = make_plan(make_fingerprint(), PlanOptions(size="base", preset="listing"))
    assert (listing.network.spatial_dims, listing.patch_size[2]) == (2, 1)
    assert listing.network.gate_widths.keys() == {1, 2, 3, 4}


@pytest.mark.parametrize("size", BUDGETS)
def test_the_papers_patch_does_not_depend_on_the_size_but_gives_way_to_memory(size, make_fingerprint):
    facts, options = (
        make_fingerprint((512, 200, 512), (0.7, 2.5, 0.7), modality="ct"),
        PlanOptions(preset="paper", size=size),
    )
    assert make_plan(facts, options).patch_size == (160, 160, 96)
    smaller = make_plan(facts, options, 500_000)
    assert prod(smaller.patch_size) <= 1.6 * 500_000
    assert smaller.batch_size == 2
    mr = make_plan(make_fingerprint((48, 50, 36), modality="mr"), options)
    assert mr.patch_size != (160, 160, 96)


def test_the_gate_is_chosen_freely_and_can_be_left_out(make_fingerprint):
    gates = {
        gate: make_plan(make_fingerprint(), PlanOptions(size="base", gate=gate)).network.gate
        for gate in GATES["default"]
    }
    assert gates == {None: "grid", "grid": "grid", "multi": "multi", "additive": "additive", "none": None}


@settings(max_examples=12)
@given(grid=sizes_and_spacings(), channels=st.integers(1, 5), voxels=st.integers(64, 4096))
def test_a_network_of_any_data_really_runs(grid, channels, voxels, make_fingerprint):
    plan = make_plan(make_fingerprint(*grid, channels=channels), PlanOptions(size="small"), voxels)
    dims = plan.network.spatial_dims
    assert prod(plan.patch_size) <= 1.6 * voxels or plan.patch_size[:dims] == tuple(np.prod(plan.network.strides, 0))
    with torch.inference_mode():
        logits = AttentionUNet.from_config(plan.network)(
            torch.randn(2, plan.network.in_channels, *plan.patch_size[:dims])
        )
    assert logits.shape == (2, 2, *plan.patch_size[:dims])
    assert torch.isfinite(logits).all()


def test_pictures_may_be_mirrored_and_two_scans_tell_too_little(make_fingerprint):
    assert make_plan(make_fingerprint((64, 60, 1), modality="image"), PlanOptions(size="base")).mirror_axes == (0, 1)
    assert make_plan(make_fingerprint(), PlanOptions(size="base")).mirror_axes == ()
    assert make_plan(make_fingerprint(cases=4), PlanOptions(size="base")).mirror_axes == (0, 1, 2)


def test_the_paper_flips_within_slices(make_fingerprint):
    assert make_plan(make_fingerprint(), PlanOptions(size="base", preset="paper")).mirror_axes == (0, 1)


def test_organs_that_change_places_are_in_the_plan(place_labels):
    kidneys = {"kidney_left": [(-30, 0, 0)] * 4, "kidney_right": [(30, 0, 0)] * 4}
    plan = make_plan(place_labels(kidneys), PlanOptions(size="base"))
    assert plan.mirror_swaps == plan.fingerprint.lateral == (("kidney_left", "kidney_right"),)
    assert plan.left_right in plan.mirror_axes


def test_low_resolution_is_in_the_plan(make_fingerprint):
    facts = make_fingerprint((512, 512, 300), (0.7, 0.7, 1.0))
    low, full = (make_plan(facts, PlanOptions(size="base", resolution=kind)) for kind in ("low", "full"))
    assert (low.resolution, full.resolution) == ("low", "full")
    assert low.preprocessing.spacing > full.preprocessing.spacing


def test_a_larger_size_sees_more(make_fingerprint):
    facts = make_fingerprint((512, 512, 300), (0.7, 0.7, 1.0))
    small, base, large = (make_plan(facts, PlanOptions(size=size)) for size in ("small", "base", "large"))
    assert prod(small.patch_size) < prod(base.patch_size) < prod(large.patch_size)
    assert small.preprocessing.spacing[0] > base.preprocessing.spacing[0] >= large.preprocessing.spacing[0]
    assert "coarsened" in small.reasons["spacing"]


NOTHING = Mirroring((), (), (("a_left", "a_right"),), {"1": "a, b"}, "")


def test_what_the_planner_saw(make_fingerprint):
    found = summarize_fingerprint(make_fingerprint(channels=2, classes=3), NOTHING)
    assert (found.cases, found.channels, found.median_shape) == (2, 2, (64, 60, 40))
    assert found.label_voxels == {"background": 180, "label_1": 20, "label_2": 20}
    assert found.label_cases == {"label_1": 2, "label_2": 2}
    assert (found.lateral, found.fixed_order) == (NOTHING.lateral, NOTHING.fixed_order)


def test_intensities_by_channel(make_fingerprint):
    found = summarize_fingerprint(make_fingerprint(channels=2), NOTHING).intensities
    assert len(found) == 2
    lower, mean, deviation, upper = found[0]
    assert lower < mean < upper
    assert mean == pytest.approx(100, abs=5)
    assert deviation == pytest.approx(20, abs=3)


def test_labels_with_their_cases_and_sizes(place_labels):
    text = describe_labels(place_labels({"liver": [(0, 0, 0)] * 3, "tumour": [None, None, (0, 0, 0)]}))
    assert text == "found in 3 cases, median size in brackets: liver in 3 (0.01 ml), tumour in 1 (0.01 ml)"


def test_pictures_have_pixels(place_labels):
    assert "cell in 2 (10 pixels)" in describe_labels(place_labels({"cell": [(0, 0, 0)] * 2}, modality="image"))


def test_many_labels_are_not_all_listed(make_fingerprint):
    text = describe_labels(make_fingerprint(classes=100))
    assert text.endswith("label_8 in 2 (0.01 ml) and 91 more")


def test_a_region_counts_all_its_values(make_fingerprint):
    facts = make_fingerprint(classes=3, regions={"label_1": (1, 2), "label_2": (2,)})
    assert summarize_fingerprint(facts, NOTHING).label_voxels == {"background": 180, "label_1": 40, "label_2": 20}
