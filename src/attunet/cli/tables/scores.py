"""Tables of scores: of masks, of a cross-validation, and of several models side by side."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from rich.text import Text

from attunet.cli.console import fail, notes, results, show
from attunet.cli.tables.models import prediction_table
from attunet.cli.tables.table import Column, FittedTable
from attunet.display import decimals
from attunet.names import listed

if TYPE_CHECKING:
    from attunet.config import Postprocessing, QualityCalibration
    from attunet.evaluation import Summary
    from attunet.evaluation.comparison import ModelComparison
    from attunet.evaluation.metrics import MetricSpec
    from attunet.selection.cross_validation import CrossValidation
    from attunet.selection.ensemble import Selection
    from attunet.training.finish import FoldResult

__all__ = [
    "score_table",
    "score_warnings",
    "selection_sentences",
    "selection_table",
    "show_comparison",
    "show_cross_validation",
    "show_fold",
    "skeleton_recalls",
    "worst_cases",
]

EMPTY = {
    "both": "empty in reference and prediction, left out of the mean",
    "reference_only": "predicted where the reference is empty, scored as Dice 0",
    "prediction_only": "empty only in the prediction, scored as Dice 0",
}


def score_table(summary: Summary) -> FittedTable:
    """Mean and standard deviation over the cases of each label, and the interval of the mean Dice."""
    from attunet.evaluation.metrics import TABULATED

    count, left_out = len(summary.cases), len(summary.failed)
    cases = f"{count} cases" if count != 1 else "1 case"
    if left_out:
        cases = f"{count} of {count + left_out} cases ({left_out} could not be scored and are in no mean)"
    means_of = f"{cases}: mean ± standard deviation, 95% interval of the mean Dice"
    headings = [Column(heading=spec.column, kind="number", rank=spec.rank) for spec in TABULATED]
    table = FittedTable(
        Column(heading="Label"),
        *headings,
        title=means_of if count + left_out != 1 else cases,
        elsewhere="--json",
    )
    for label in summary.labels:
        cells = [_mean_cell(summary, label, spec) for spec in TABULATED]
        table.add(Text(label, "bold"), *_with_interval(cells, summary.interval(label)))
    if len(summary.labels) > 1:
        table.end_section()
        means = [Text(decimals(summary.foreground_mean(spec.name), spec.digits)) for spec in TABULATED]
        table.add(Text("mean", "bold"), *_with_interval(means, summary.foreground_interval()))
    return table


def worst_cases(summary: Summary) -> list[str]:
    """One line per label with its worst case, if there is more than one case."""
    worst = {label: summary.worst(label) for label in summary.labels if len(summary.cases) > 1}
    return [f"worst {label}: {case[0]}, Dice {case[1]:.3f}" for label, case in worst.items() if case]


def skeleton_recalls(summary: Summary, most: int = 6) -> list[str]:
    """One line with the skeleton recall of at most `most` labels, lowest first; empty when no label has one."""
    recalls = {label: summary.mean(label, "SkeletonRecall") for label in summary.labels}
    lowest = sorted((value, label) for label, value in recalls.items() if not isnan(value))
    shown = ", ".join(f"{label} {value:.3f}" for value, label in lowest[:most])
    more = f" and {len(lowest) - most} higher" if len(lowest) > most else ""
    return [f"skeleton recall (thin parts): {shown}{more}"] if lowest else []


def score_warnings(summary: Summary) -> list[Text]:
    """Warnings about missing, surplus and empty masks, and about labels that were not annotated in every case."""
    lines = []
    for label in summary.labels:
        counts = summary.empty(label)
        empty = [f"{counts[kind]} case(s) {text}" for kind, text in EMPTY.items() if counts[kind]]
        lines += [Text(f"{label}: {text}", "yellow") for text in empty]
        annotated = sum(label in case.scores for case in summary.cases)
        if annotated < len(summary.cases):
            text = f"{label}: annotated and scored in {annotated} of {len(summary.cases)} cases"
            lines.append(Text(text, "yellow"))
    if summary.missing_predictions:
        lines.append(Text(f"no prediction, scored as empty: {listed(summary.missing_predictions)}", "red"))
    if summary.failed:
        text = (
            f"{len(summary.failed)} of {len(summary.failed) + len(summary.cases)} cases could not be scored; every mean"
        )
        lines.append(Text(f"{text} is without them: {listed(tuple(summary.failed))}", "red"))
    if summary.extra_predictions:
        lines.append(Text(f"no reference, not scored: {listed(summary.extra_predictions)}", "yellow"))
    return lines


def show_fold(result: FoldResult) -> None:
    """Print the scores of a finished fold and the path of its report."""
    from attunet.training.finish import validated_held_out
    from attunet.training.run_folder import FoldPaths

    if not result.trained:
        more = "give a larger --epochs or --max-time to train it further"
        if not FoldPaths(result.folder).last.exists():
            more = "its checkpoint was deleted, so it cannot be trained further"
        notes().print(f"fold {result.fold} is already finished: {more}")
    same = ("", "") if validated_held_out(result.folder) else (", which it was also trained on", "yellow")
    show(Text.assemble((f"fold {result.fold}", "bold"), ": whole validation cases on their own grid", same))
    show(score_table(result.summary))
    for case, reason in result.summary.failed.items():
        fail(f"{case} could not be used, and is in no mean: {reason}")
    if decided := result.decided:
        text = decided.evidence.text if decided.evidence else "validation cases"
        show(
            Text.assemble((f"decided on {text}", "bold"), " (attunet evaluate --cross-validation decides on all folds)")
        )
        _show_decisions(decided)
    notes().print(f"report: {result.folder / 'report.html'}", soft_wrap=True, markup=False, highlight=False)


def show_cross_validation(validated: CrossValidation) -> None:
    """Print scores, worst cases and accepted post-processing with reasons; folds that were left out go to stderr."""
    for warning in validated.warnings:
        notes().print(warning, style="yellow", markup=False, highlight=False)
    show(Text("held-out cases, each segmented by the fold that held it out", "bold"))
    show(score_table(validated.summary))
    if validated.postprocessing.components:
        show(Text.assemble(("after post-processing", "bold"), " (chosen on the same cases)"))
        show(score_table(validated.postprocessed))
    worst = validated.worst()
    if len(validated.dice) > 1 and worst:
        named = ", ".join(f"{case} ({validated.dice[case].measured:.3f})" for case in worst)
        show(Text.assemble(("worst cases", "bold"), f" (mean Dice): {named}"))
    _show_decisions(validated.postprocessing)
    show(*score_warnings(validated.summary), stderr=True)
    notes().print(f"report: {validated.report}", soft_wrap=True, markup=False, highlight=False)


def _show_decisions(postprocessing: Postprocessing) -> None:
    """Every decision with its reason, and Dice against seconds."""
    for decision, reason in postprocessing.reasons.items():
        show(Text.assemble((decision, "bold"), f": {reason}"))
    if postprocessing.prediction.measured:
        show(prediction_table([row.model_dump() for row in postprocessing.prediction.measured]))


def selection_table(selection: Selection) -> FittedTable:
    """Every run and ensemble by its Dice, best first; the chosen one in bold."""
    cases, folds = len(selection.chosen.scores), ", ".join(map(str, selection.folds))
    table = FittedTable(
        Column(heading="Candidate", kind="text"),
        *(Column(heading=heading, kind="number") for heading in ("Dice", "95% CI")),
        Column(heading="s per case", kind="number", rank=1),
        title=f"{cases} held-out cases of fold {folds}",
    )
    for candidate in sorted(selection.candidates, key=lambda entry: -entry.mean_dice):
        low, high = candidate.interval
        chosen = candidate.members == selection.chosen.members
        cells = (f"{candidate.mean_dice:.4f}", f"{low:.3f}–{high:.3f}", f"{candidate.seconds:.2f}")
        table.add(candidate.name, *cells, style="bold green" if chosen else "")
    return table


def selection_sentences(selection: Selection) -> list[str]:
    """Which model was chosen and why, and how well its quality scores follow the true Dice."""
    lines = [selection.conclusion]
    if selection.quality:
        lines.append(f"Expected Dice against true Dice: {_correlation(selection.quality)}.")
    if selection.agreement:
        lines.append(f"Agreement of the members against true Dice: {_correlation(selection.agreement)}.")
    return lines


def show_comparison(comparison: ModelComparison) -> None:
    """Print scores, networks, differences and conclusions; notes on how the runs were trained go to stderr."""
    for table in (_model_scores(comparison), _models(comparison), _differences(comparison)):
        show(table)
    printer = results()
    printer.print(comparison.conclusion, style="bold", markup=False, highlight=False, soft_wrap=True)
    for conclusion in comparison.further_conclusions:
        printer.print(conclusion, markup=False, highlight=False, soft_wrap=True)
    for note in comparison.notes:
        notes().print(note, markup=False, highlight=False, soft_wrap=True)
    notes().print("Each fold was trained once: no interval includes the effect of another seed.", highlight=False)


def _model_scores(comparison: ModelComparison) -> FittedTable:
    from attunet.evaluation.metrics import COMPARED
    from attunet.report.comparison import model_cells

    headings = [Column(heading=spec.column, kind="number", rank=spec.rank) for spec in COMPARED]
    table = FittedTable(
        Column(heading="Label"),
        Column(heading="Model"),
        *headings,
        title=f"{comparison.cases} held-out cases: mean ± standard deviation",
        elsewhere="the report",
    )
    for label in comparison.baseline.row_labels:
        for model in comparison.models:
            table.add(label, model.name, *model_cells(model, label))
        table.end_section()
    return table


def _models(comparison: ModelComparison) -> FittedTable:
    from attunet.report.comparison import per_fold

    table = FittedTable(
        Column(heading="Model"),
        Column(heading="Gate", rank=3),
        Column(heading="Parameters", kind="number"),
        Column(heading="GFLOP", kind="number", rank=2),
        Column(heading="s per case", kind="number", rank=1),
        Column(heading="Steps", kind="list", rank=4),
        title="Models: GFLOP of a window (a multiply-add counts as 2), median seconds per case, steps of each fold",
        elsewhere="the report",
    )
    for model in comparison.models:
        steps = per_fold([str(steps) for steps in model.steps.values()])
        costs = f"{model.parameters:,}", f"{model.flops / 1e9:.2f}", f"{model.median_seconds:.2f}"
        table.add(model.name, model.gate or "none", *costs, steps)
    return table


def _differences(comparison: ModelComparison) -> FittedTable:
    from attunet.report.comparison import TEST_HEADINGS, difference_cells

    ranks = {"Cases": 3, "Effect": 2, "p": 1}
    table = FittedTable(
        Column(heading="Label"),
        Column(heading="Other"),
        *(Column(heading=heading, kind="number", rank=ranks.get(heading, 0)) for heading in TEST_HEADINGS),
        title=f"Dice, {comparison.baseline.name} minus the other",
        elsewhere="the report",
    )
    for entry in comparison.differences:
        if entry.metric == "Dice":
            table.add(entry.label, entry.other, *map(str, difference_cells(entry)))
    return table


def _mean_cell(summary: Summary, label: str, spec: MetricSpec) -> Text:
    mean, deviation, digits = summary.mean(label, spec.name), summary.deviation(label, spec.name), spec.digits
    if isnan(mean):
        return Text("–")
    text = Text(decimals(mean, digits))
    return text if isnan(deviation) else text.append(f"\n± {decimals(deviation, digits)}", "dim")


def _with_interval(cells: list[Text], interval: tuple[float, float]) -> list[Text]:
    """The cells of a row; the first one, the Dice, has its confidence interval below it."""
    low, high = interval
    return cells if isnan(low) else [cells[0].append(f"\n{low:.3f}–{high:.3f}", "dim"), *cells[1:]]


def _correlation(quality: QualityCalibration) -> str:
    interval = f"{quality.spearman:.2f} ({quality.low:.2f} to {quality.high:.2f})"
    return f"rank correlation {interval} on {quality.cases} held-out cases"
