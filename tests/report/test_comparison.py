"""The report of a comparison: the conclusion first, the paper's table, and the notes."""

from __future__ import annotations

import numpy as np
import pytest

from attunet.evaluation.comparison import ModelComparison
from attunet.report.comparison import difference_cells, model_cells, per_fold, write_comparison_report


@pytest.fixture
def comparison(make_compared):
    dice = np.random.default_rng(0).uniform(0.5, 0.9, (12, 2))
    steps = {0: 100, 1: 90}
    models = (
        make_compared("<gated>", dice, ("liver", "<lesion>"), steps=steps),
        make_compared("ungated", dice - 0.05, ("liver", "<lesion>"), gate=None),
        make_compared("wider", dice - 0.001, ("liver", "<lesion>"), gate=None),
    )
    return ModelComparison("scans", (0, 1), models, ("Bounded by time.",))


def test_conclusion_scores_differences_and_networks_are_shown(comparison, tmp_path):
    write_comparison_report(tmp_path / "report.html", comparison)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (
        "The gate helped here",
        "Scores over 12 held-out cases",
        "mean of labels, wider",
        "MSD mm",
        "1,000",
        "2.00",
        "16 × 16 × 8",
        "100, 90",
        "Bounded by time.",
        "variation between seeds",
        "Holm p",
        "&lt;lesion&gt;",
    ):
        assert text in page, text
    assert "<lesion>" not in page
    assert page.count("data:image/png") == 2
    names = {path.name for path in (tmp_path / "report_figures").iterdir()}
    assert names == {"dice.png", "dice.svg", "differences.png", "differences.svg"}


def test_unknown_values_are_dashes(comparison, make_compared):
    assert model_cells(comparison.baseline, "liver")[0].count("±") == 1
    assert "±" not in model_cells(comparison.baseline, "mean of labels")[0]
    cases, mean, interval, effect, p, holm = difference_cells(comparison.differences[0])
    assert (cases, effect) == (12, "1.00")
    assert mean.startswith("+0.05")
    assert " to " in interval
    assert float(p) < float(holm) < 0.05
    absent = ModelComparison("none", (0,), tuple(make_compared(name, np.full((2, 1), np.nan), ("a",)) for name in "xy"))
    assert set(difference_cells(absent.differences[0])[1:]) == {"–"}


def test_equal_folds_are_shown_once():
    assert per_fold(["20", "20"]) == "20 each"
    assert per_fold(["20"]) == "20"
    assert per_fold(["20", "18"]) == "20, 18"
    assert per_fold([]) == "–"
