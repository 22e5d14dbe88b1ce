"""The report of a comparison: the paper's table for the user's data, and the differences with their tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path

from attunet.evaluation.comparison import ALL_LABELS, ComparedModel, Difference, ModelComparison
from attunet.evaluation.metrics import COMPARED, METRICS
from attunet.report.cells import NOTHING, between, mean_cells, number, score_cells
from attunet.report.comparison_figures import MAX_LABELS, difference_forest, model_boxes, shown_labels
from attunet.report.html import Picture, Section, Table, write_report

__all__ = ["TEST_HEADINGS", "difference_cells", "model_cells", "per_fold", "write_comparison_report"]

TEST_HEADINGS = ("Cases", "Difference", "95% interval", "Effect", "p", "Holm p")
"""Headings of the cells of a difference."""

_NOTES = (
    "Cases are the unit of every interval and p value. Each fold of each model was trained once, from one seed: the "
    "variation between seeds is not included, and may be as large as a small difference.",
    "Each fold kept the weights that scored best on the cases it is evaluated on here. This makes the scores of all "
    "models slightly optimistic, to the same degree.",
    "Intervals are percentile bootstraps of the mean difference over cases. p: two-sided Wilcoxon "
    "signed-rank test on the cases, those without a difference left out of the ranks; Holm: corrected over all labels "
    "(and their mean) and models of one metric. Effect: matched-pairs rank-biserial correlation, from -1 to 1.",
    "A case in which a label is in neither reference nor prediction, or is not annotated, is left out for that label.",
    "MSD is the mean symmetric surface distance (the paper's S2S). GFLOP: to predict one window once, a multiply-add "
    "counted as 2, convolutions only. Seconds: median time of a prediction measured on this machine while comparing, "
    "all windows and mirrored copies, reading and writing not counted.",
    "This is research software, not a medical device.",
)


def write_comparison_report(path: Path, comparison: ModelComparison) -> None:
    """Write one self-contained HTML file: conclusion, scores, box plots, differences with a forest plot, networks.

    Raises: FormatError when it cannot be written.
    """
    write_report(
        path,
        title=f"{comparison.dataset}: {' against '.join(model.name for model in comparison.models)}",
        subtitle=comparison.conclusion,
        facts=_facts(comparison),
        sections=list(_sections(comparison)),
        notes=[*comparison.further_conclusions, *comparison.notes, *_NOTES],
    )


def per_fold(values: Sequence[str]) -> str:
    """A number for each fold; a single one if all are equal; a dash if there is none."""
    same = len(set(values)) == 1
    return f"{values[0]}{' each' * (len(values) > 1)}" if same else ", ".join(values) or NOTHING


def _sections(comparison: ModelComparison) -> Iterator[Section]:
    labels = shown_labels(comparison)
    some = "" if len(labels) == len(comparison.baseline.row_labels) else f", the {MAX_LABELS} labels that differ most"
    yield _scores(comparison)
    yield Picture(f"Dice of every case by label and model{some}", model_boxes(comparison, labels), "dice")
    yield _differences(comparison)
    yield Picture(
        f"{comparison.baseline.name} minus each other model: mean difference of Dice with its 95% interval{some}. "
        "Filled: the interval excludes 0 and Holm's p is below 0.05",
        difference_forest(comparison, labels),
        "differences",
    )
    yield _other_metrics(comparison)
    yield _networks(comparison)


def _facts(comparison: ModelComparison) -> dict[str, object]:
    return {
        "Held-out cases": comparison.cases,
        "Folds": ", ".join(map(str, comparison.folds)),
        **{f"Dice, {model.name}": number(model.summary.foreground_mean(), 4) for model in comparison.models},
    }


def _scores(comparison: ModelComparison) -> Table:
    rows = [
        [f"{label}, {model.name}", *model_cells(model, label)]
        for label in comparison.baseline.row_labels
        for model in comparison.models
    ]
    headings = ("Label, model", *(spec.column for spec in COMPARED))
    return Table(f"Scores over {comparison.cases} held-out cases (mean ± standard deviation)", headings, rows)


def model_cells(model: ComparedModel, label: str) -> list[str]:
    """A model's scores of a label, or the mean of its labels, in each metric of `COMPARED`."""
    if label == ALL_LABELS:
        return mean_cells(model.summary, COMPARED)
    return score_cells(model.summary, label, COMPARED)


def _differences(comparison: ModelComparison) -> Table:
    entries = [difference for difference in comparison.differences if difference.metric == "Dice"]
    return Table(
        f"Dice, {comparison.baseline.name} minus the other model",
        ("Label, other model", *TEST_HEADINGS),
        [[f"{entry.label}, {entry.other}", *difference_cells(entry)] for entry in entries],
    )


def _other_metrics(comparison: ModelComparison) -> Table:
    """The other metrics for the mean of the labels, or the only label; summary.json has those of every label."""
    label = comparison.baseline.row_labels[-1]
    entries = [entry for entry in comparison.differences if entry.metric != "Dice" and entry.label == label]
    lower = " and ".join(spec.heading or spec.name for spec in COMPARED if spec.better == "lower")
    return Table(
        f"The other metrics ({label}), {comparison.baseline.name} minus the other model; lower is better for {lower}",
        ("Metric, other model", *TEST_HEADINGS),
        [[f"{METRICS[entry.metric].column}, {entry.other}", *difference_cells(entry)] for entry in entries],
    )


def difference_cells(difference: Difference) -> Sequence[object]:
    """A difference under `TEST_HEADINGS`."""
    test, digits = difference.test, METRICS[difference.metric].digits + 1
    mean = number(test.mean, digits) if isnan(test.mean) else f"{test.mean:+.{digits}f}"
    interval = between((test.low, test.high), digits)
    return [test.cases, mean, interval, number(test.effect, 2), _probability(test.p), _probability(test.holm)]


def _networks(comparison: ModelComparison) -> Table:
    headings = ("Model", "Gate", "Parameters", "GFLOP", "Window", "s per case", "Steps", "Minutes", "Description")
    rows = [
        [
            model.name,
            model.gate or "none",
            f"{model.parameters:,}",
            number(model.flops / 1e9, 2),
            " × ".join(map(str, model.patch)),
            number(model.median_seconds, 2),
            per_fold([str(steps) for steps in model.steps.values()]),
            per_fold([f"{minutes:.1f}" for minutes in model.minutes.values()]),
            "; ".join(part for part in (model.description, model.budget, model.engine) if part),
        ]
        for model in comparison.models
    ]
    return Table("The models; steps and minutes of training fold by fold", headings, rows)


def _probability(p: float) -> str:
    """A p value with two digits, never 0; a dash for nan."""
    if isnan(p):
        return number(p, 0)
    return f"{p:.2g}" if p >= 1e-4 else "<0.0001"
