"""The tables of scores and comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.cli import console
from attunet.cli.tables.scores import show_comparison
from attunet.evaluation.comparison import ModelComparison


@pytest.fixture
def shown(capsys, monkeypatch):
    def show(comparison):
        monkeypatch.setenv("COLUMNS", "160")
        console.results.cache_clear()
        console.notes.cache_clear()
        show_comparison(comparison)
        console.results.cache_clear()
        console.notes.cache_clear()
        return capsys.readouterr()

    return show


def test_scores_models_differences_and_sentences(make_compared, shown):
    dice = np.random.default_rng(0).uniform(0.5, 0.9, (9, 2))
    models = (
        make_compared("[gated]", dice, ("liver", "[x]"), steps={0: 10, 1: 10}),
        make_compared("ungated", dice - 0.1, ("liver", "[x]"), gate=None),
        make_compared("multi", dice + 0.001, ("liver", "[x]"), gate="multi"),
    )
    told = shown(ModelComparison("scans", (0, 1), models, ("Bounded by steps.",)))
    for text in (
        "9 held-out cases",
        "[x]",
        "[gated]",
        "mean of labels",
        "10 each",
        "2.00",
        "1,000",
        "The gate helped here",
    ):
        assert text in told.out, text
    assert "[gated] is worse than multi" in told.out
    assert "Bounded by steps." in told.err
    assert "effect of another seed" in told.err
