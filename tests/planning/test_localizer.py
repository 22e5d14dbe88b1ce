"""The planner's rule for a cascade, and the coarse grid of its localizer."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest

from attunet.config import MOST_CONTEXT, Plan, load_settings
from attunet.errors import ConfigError
from attunet.planning.options import BUDGETS, PlanOptions
from attunet.planning.planner import make_plan


def planned(facts, **options):
    return make_plan(facts, PlanOptions(**{"size": "small", "cascade": "auto", **options}))


def test_a_large_field_of_view_gets_a_localizer_that_sees_all_of_it(make_fingerprint):
    plan = planned(make_fingerprint((300, 280, 200), (1.0, 1.0, 1.5)))
    localizer = plan.localizer
    assert plan.reasons["cascade"].startswith("on: a patch covers")
    assert all(np.greater(localizer.spacing, plan.preprocessing.spacing))
    extent = np.array((300, 280, 200)) * (1.0, 1.0, 1.5)
    seen = np.multiply(localizer.patch_size, localizer.spacing)
    assert (seen >= 0.9 * extent).all(), "one patch shows nearly the whole case"
    assert prod(localizer.patch_size) <= 1.6 * BUDGETS["small"].voxels[3] / 8
    assert plan.coarse.patch_size == localizer.patch_size
    assert plan.coarse.preprocessing.spacing == localizer.spacing
    assert plan.coarse.localizer is None
    assert plan.coarse.outputs == plan.outputs


def test_the_coarse_grid_of_a_very_large_image_still_tells_the_windows_of_the_fine_one_apart(make_fingerprint):
    plan = planned(make_fingerprint((512, 512, 900), (0.8, 0.8, 1.0)), resolution="full")
    patch = np.multiply(plan.patch_size, plan.preprocessing.spacing)
    assert max(plan.localizer.spacing) <= patch.min() / 5 + 1e-5
    assert prod(plan.localizer.patch_size) <= 1.6 * BUDGETS["small"].voxels[3] / 8


def test_an_image_as_small_as_a_patch_needs_none(make_fingerprint):
    plan = planned(make_fingerprint((40, 50, 36)))
    assert plan.localizer is None
    assert plan.context == ()
    assert "a patch sees enough" in plan.reasons["cascade"]
    assert planned(make_fingerprint((40, 50, 36)), cascade="on").localizer is not None
    with pytest.raises(ConfigError, match="no localizer"):
        _ = plan.coarse


def test_a_cascade_can_be_switched_off_and_is_refused_for_published_networks(make_fingerprint):
    facts = make_fingerprint((300, 280, 200), modality="ct")
    assert planned(facts, cascade="off").localizer is None
    assert planned(facts, preset="paper").localizer is None
    with pytest.raises(ConfigError, match="published network") as refused:
        planned(facts, preset="paper", cascade="on")
    assert refused.value.hint


@pytest.mark.parametrize("classes", [2, 4, MOST_CONTEXT + 1, MOST_CONTEXT + 2])
def test_each_label_has_a_context_channel_until_there_are_too_many(classes, make_fingerprint):
    plan = planned(make_fingerprint((300, 280, 200), classes=classes))
    expected = plan.foreground if classes <= MOST_CONTEXT + 1 else ("foreground",)
    assert plan.context == expected
    assert plan.network.in_channels == 1 + len(expected)
    assert plan.localizer.network.in_channels == 1


def test_short_memory_makes_the_localizer_smaller_too(make_fingerprint):
    facts = make_fingerprint((300, 280, 200), (1.0, 1.0, 1.5))
    options = PlanOptions(size="small")
    usual, short = make_plan(facts, options), make_plan(facts, options, BUDGETS["small"].voxels[3] // 8)
    voxels = [plan.batch_size * prod(plan.patch_size) for plan in (usual.coarse, short.coarse, short)]
    assert voxels[1] < voxels[0] / 4
    assert voxels[1] < voxels[2]


def test_regions_that_overlap_are_not_counted_twice(make_fingerprint):
    names = {"whole": (1, 2, 3), "core": (2, 3), "centre": (3,)}
    facts = make_fingerprint((300, 280, 200), classes=4)
    voxels = {1: 100, 2: 100, 3: 150 * 280 * 200 // 5}  # a tenth of the image; the sum over the regions is more
    cases = tuple(replace(case, label_voxels=voxels) for case in facts.cases)
    labels = dict(zip(("background", *names), range(4), strict=True))
    plan = planned(replace(facts, cases=cases, labels=labels, regions=names))
    assert plan.localizer is not None
    assert "10.0% of it is labelled" in plan.reasons["cascade"]


def test_labels_that_are_everywhere_leave_nothing_to_skip(make_fingerprint):
    facts = make_fingerprint((512, 512, 1), modality="image", classes=3)

    def spread(*held):
        positions = {value: place._replace(parts=bits) for (value, place), bits in zip(found, held, strict=True)}
        return replace(facts, cases=(replace(facts.cases[0], positions=positions, parts=256),) * 2)

    found = tuple(facts.cases[0].positions.items())
    half = (1 << 128) - 1
    scattered = planned(spread(half >> 1, half << 64))
    assert scattered.localizer is None
    assert "off: a patch covers" in scattered.reasons["cascade"]
    assert "labels lie in 75% of its parts" in scattered.reasons["cascade"]
    assert planned(spread(half >> 1, half >> 2)).localizer is not None, "parts of two labels are not counted twice"
    assert planned(spread(half, half << 64), cascade="on").localizer is not None
    chosen = replace(spread(half >> 1, half << 64), labels={"background": 0, "label_1": 1})
    assert planned(chosen).localizer is not None, "a label that is not learnt does not count"


def test_large_pictures_get_one_too(make_fingerprint):
    plan = planned(make_fingerprint((2000, 1800, 1), modality="image"))
    assert plan.localizer.network.spatial_dims == 2
    assert plan.localizer.patch_size[2] == 1
    assert plan.localizer.spacing[2] == plan.preprocessing.spacing[2]


def test_a_localizer_that_contradicts_the_plan_is_refused(make_fingerprint):
    content = planned(make_fingerprint((300, 280, 200))).model_dump(mode="json")
    content["localizer"]["network"]["out_channels"] = 7
    with pytest.raises(ConfigError, match="localizer needs"):
        load_settings(Plan, content)
    content["localizer"] = None
    with pytest.raises(ConfigError, match="less the localizer"):
        load_settings(Plan, content)
