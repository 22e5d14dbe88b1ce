import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attunet.config import ComponentRules
from attunet.evaluation.overlap import dice
from attunet.inference.postprocess import clean
from attunet.selection.connected_components import connected_components

SPACING = (1.0, 2.0, 5.0)
MASKS = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(*[arrays(np.uint8, shape, elements=st.integers(0, 2))] * 2)
)
RULES = st.builds(
    ComponentRules,
    fill_holes=st.booleans(),
    minimum_ml=st.sampled_from([0.0, 0.02, 0.055]),
    largest_component=st.booleans(),
)


@pytest.fixture(scope="module")
def plan(make_plan_of):
    return make_plan_of(labels={"background": 0, "a": 1, "b": 2})


@pytest.fixture(scope="module")
def nested(plan):
    network = plan.network.model_copy(update={"out_channels": 2})
    return plan.model_copy(update={"regions": {"a": (1, 2), "b": (2,)}, "network": network})


def agrees(masks, plan, labels, rules):
    """Whether the Dice read off the components is that of the cleaned mask."""
    predicted, reference = masks
    components = connected_components(predicted, reference, plan, labels, SPACING)
    for name, values in labels.items():
        cleaned = clean(predicted, {name: rules}, plan.labels, SPACING, regions=plan.regions)
        score = dice(np.isin(reference, values), np.isin(cleaned, values))
        assert components[name].dice(rules) == pytest.approx(1.0 if np.isnan(score) else score)


@given(MASKS, RULES)
def test_the_dice_of_the_components_is_that_of_the_cleaned_mask(plan, masks, rules):
    agrees(masks, plan, {"a": 1, "b": 2}, rules)


@given(MASKS, RULES)
def test_regions_are_taken_apart_as_unions(nested, masks, rules):
    agrees(masks, nested, {"a": (1, 2), "b": (2,)}, rules)


def test_ignored_voxels_do_not_count(plan):
    predicted, reference = np.zeros((2, 6, 6, 1), np.uint8)
    predicted[:3] = 1
    reference[:3] = 1
    reference[:, :3] = 9
    ignoring = plan.model_copy(update={"ignore_label": 9})
    components = connected_components(predicted, reference, ignoring, {"a": 1}, SPACING)["a"]
    assert components.dice(ComponentRules()) == 1.0
    assert components.plain.reference == 9
    assert components.plain.ml.tolist() == [0.18]


def test_an_empty_label_is_right_where_there_is_none(plan):
    nothing = np.zeros((4, 4, 4), np.uint8)
    components = connected_components(nothing, nothing, plan, {"a": 1}, SPACING)["a"]
    assert components.dice(ComponentRules(largest_component=True)) == 1.0
