"""The tables and sentences that `attunet compare` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attunet.cli.console import notes, results

if TYPE_CHECKING:
    from rich.table import Table

    from attunet.evaluation.comparison import Comparison, Contestant

__all__ = ["show_comparison"]


def show_comparison(comparison: Comparison) -> None:
    """Scores, networks, differences, and what they say; how the runs were trained goes to stderr."""
    printer = results()
    for table in (_scores(comparison), _models(comparison), _differences(comparison)):
        printer.print(table, highlight=False)
    printer.print(comparison.verdict, style="bold", markup=False, highlight=False, soft_wrap=True)
    for sentence in comparison.sentences:
        printer.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for remark in comparison.remarks:
        notes().print(remark, markup=False, highlight=False, soft_wrap=True)
    notes().print("Each fold was trained once: what another seed would change is in no interval.", highlight=False)


def _table(title: str, columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left", padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index > 1 else "left", overflow="fold")
    return table


def _scores(comparison: Comparison) -> Table:
    from rich.markup import escape

    from attunet.report.comparison import COLUMNS, score_cells

    title = f"{comparison.cases} unseen cases: mean ± standard deviation"
    table = _table(title, ("Label", "Model", *(heading for heading, _ in COLUMNS.values())))
    for label in comparison.baseline.row_labels:
        for model in comparison.contestants:
            table.add_row(escape(label), escape(model.name), *score_cells(model, label))
        table.add_section()
    return table


def _models(comparison: Comparison) -> Table:
    from rich.markup import escape

    title = "Models: GFLOP of a window (a multiply-add counts as 2), median seconds a case, steps by fold"
    table = _table(title, ("Model", "Gate", "Parameters", "GFLOP", "s per case", "Steps"))
    for model in comparison.contestants:
        table.add_row(escape(model.name), model.gate or "none", *_costs(model))
    return table


def _costs(model: Contestant) -> tuple[str, ...]:
    from attunet.report.comparison import per_fold

    steps = per_fold([str(steps) for steps in model.steps.values()])
    return f"{model.parameters:,}", f"{model.flops / 1e9:.2f}", f"{model.median_seconds:.2f}", steps


def _differences(comparison: Comparison) -> Table:
    from rich.markup import escape

    from attunet.report.comparison import TEST_HEADINGS, difference_cells

    table = _table(f"Dice, {comparison.baseline.name} minus the other", ("Label", "Other", *TEST_HEADINGS))
    for entry in comparison.differences:
        if entry.metric == "Dice":
            table.add_row(escape(entry.label), escape(entry.other), *map(str, difference_cells(entry)))
    return table
