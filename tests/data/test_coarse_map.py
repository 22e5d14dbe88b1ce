"""Coarse probabilities on the fine grid: the same numbers in any window, and those of resizing the whole map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunet.data.coarse_map import CoarseMap, context_channels, foreground_probability
from attunet.data.resample import resize

edges = st.integers(1, 12)
triples = st.tuples(edges, edges, edges)


@settings(max_examples=60, deadline=None)
@given(old=triples, factor=st.tuples(*[st.integers(1, 5)] * 3), data=st.data())
def test_a_window_is_a_part_of_the_resized_map(old, factor, data):
    shape = tuple(n * f for n, f in zip(old, factor, strict=True))
    values = np.random.default_rng(0).random((2, *old)).astype(np.float32)
    start = [data.draw(st.integers(-5, size - 1)) for size in shape]
    size = [data.draw(st.integers(1, 9)) for _ in range(3)]
    window = CoarseMap(values, shape).window(start, size)
    whole = resize(values, shape)
    index = np.ix_(*(np.clip(np.arange(a, a + n), 0, m - 1) for a, n, m in zip(start, size, shape, strict=True)))
    expected = np.stack([channel[index] for channel in whole])
    np.testing.assert_allclose(window, expected, atol=1e-6)
    shifted = CoarseMap(values, shape).window([low - 1 for low in start], [edge + 1 for edge in size])
    assert np.array_equal(shifted[:, 1:, 1:, 1:], window), "bit-equal in any window"


@pytest.mark.parametrize("context", ["labels", "foreground", "none"])
def test_context_is_each_label_or_all_of_them(context, make_plan_of, make_cascade):
    plan = make_cascade(make_plan_of(), context=context)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), (3, 4, 5)).transpose(3, 0, 1, 2)
    found = context_channels(plan, probabilities.astype(np.float32))
    expected = {"labels": probabilities[1:], "foreground": probabilities[1:].sum(axis=0)[None]}
    np.testing.assert_allclose(found, expected.get(context, np.empty((0, 3, 4, 5))), atol=1e-6)
    assert len(found) == len(plan.context)


def test_overlapping_regions_give_their_highest_probability(make_plan_of, make_cascade):
    regions = {"body": (1, 7), "lesion": (7,)}
    labels = {"background": 0, "body": 1, "lesion": 7}
    plain = make_plan_of(labels=labels)
    network = plain.network.model_copy(update={"out_channels": 2})
    plan = make_cascade(plain.model_copy(update={"regions": regions, "network": network}))
    probabilities = np.array([0.7, 0.9], np.float32).reshape(2, 1, 1, 1)
    assert foreground_probability(plan, probabilities).item() == pytest.approx(0.9)
    assert context_channels(plan, probabilities).shape == (2, 1, 1, 1)
