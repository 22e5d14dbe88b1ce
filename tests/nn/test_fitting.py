"""Single layers fitted into another network: whose values they get, and the note that says so."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attunet.nn.fitting import SharedLabels, fit_layers

FIRST, LATER = "encoder.level1.convs.0", "encoder.level2.convs.0"


def conv_norm(layer, *shape):
    return {f"{layer}.conv.weight": torch.randn(shape), f"{layer}.norm.weight": torch.randn(shape[0])}


def test_what_fits_is_taken_as_it_is():
    ours, found = conv_norm(LATER, 4, 2, 3, 3), conv_norm(LATER, 4, 2, 3, 3)
    fits = fit_layers(ours, found, None)
    assert all(fit.tensor is found[key] and not fit.note for key, fit in fits.items())


@pytest.mark.parametrize("shape", [(4, 1, 3, 3), (4, 2, 3, 3, 3), (4, 2, 5, 5), (5, 2, 3, 3)])
def test_a_layer_of_another_shape_stays_new_with_its_norm(shape):
    fits = fit_layers(conv_norm(LATER, 4, 2, 3, 3), conv_norm(LATER, *shape), None)
    assert {(fit.tensor, fit.note) for fit in fits.values()} == {(None, "of another shape")}


@pytest.mark.parametrize("shape", [(4, 2, 3, 3, 3), (4, 1, 5, 5), (5, 1, 3, 3)])
def test_only_the_channels_of_the_first_layer_may_differ(shape):
    fits = fit_layers(conv_norm(FIRST, 4, 2, 3, 3), conv_norm(FIRST, *shape), None)
    assert all(fit.tensor is None for fit in fits.values())


@given(st.integers(1, 5), st.integers(1, 5))
def test_the_first_layer_answers_equal_channels_as_before(theirs, ours):
    found = conv_norm(FIRST, 4, theirs, 3, 3)
    fits = fit_layers(conv_norm(FIRST, 4, ours, 3, 3), found, None)
    key = f"{FIRST}.conv.weight"
    torch.testing.assert_close(fits[key].tensor.sum(1), found[key].sum(1))
    assert fits[f"{FIRST}.norm.weight"].tensor is found[f"{FIRST}.norm.weight"]


NAMES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True)


@given(NAMES, NAMES, st.integers(1, 3))
def test_rows_follow_the_names_of_labels(outputs, source_outputs, heads):
    labels = SharedLabels.of(outputs, source_outputs)
    sizes = (len(outputs), len(source_outputs))
    ours, found = ({"fuse.weight": torch.randn(n, heads * n, 1, 1), "fuse.bias": torch.randn(n)} for n in sizes)
    fits = fit_layers(ours, found, labels)
    if labels is None:
        assert all(fit.tensor is found[key] for key, fit in fits.items())
        return
    if not set(outputs) & set(source_outputs):
        assert {(fit.tensor, fit.note) for fit in fits.values()} == {(None, "without a label of the same name")}
        return
    weight, bias = fits["fuse.weight"].tensor, fits["fuse.bias"].tensor
    for row, name in enumerate(outputs):
        known = name in source_outputs
        origin, sources = (found, source_outputs) if known else (ours, outputs)
        assert bias[row] == origin["fuse.bias"][sources.index(name)]
        for head in range(heads):
            for column, other in enumerate(outputs):
                both = known and other in source_outputs
                origin, sources = (found, source_outputs) if both else (ours, outputs)
                at = sources.index(name), head * len(sources) + sources.index(other)
                assert weight[row, head * len(outputs) + column] == origin["fuse.weight"][at]


def test_heads_fused_from_another_number_of_levels_stay_new():
    ours, found = {"fuse.weight": torch.randn(2, 4, 1, 1)}, {"fuse.weight": torch.randn(3, 9, 1, 1)}
    fits = fit_layers(ours, found, SharedLabels.of("ab", "abc"))
    assert fits["fuse.weight"].note == "of another shape"


def test_equal_or_unknown_labels_need_no_rows():
    assert SharedLabels.of(("a", "b"), ("a", "b")) is None
    assert SharedLabels.of(None, ("a",)) is SharedLabels.of(("a",), None) is None
