"""`attunet evaluate`: score predictions against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import notes, progress_bar, results
from attunet.cli.options import parse_labels

if TYPE_CHECKING:
    from rich.table import Table

    from attunet.evaluation import Summary

__all__ = ["evaluate"]

COLUMNS = {
    "Dice": ("Dice", 3),
    "Precision": ("Precision", 3),
    "Recall": ("Recall", 3),
    "MSD": ("MSD mm", 2),
    "HD95": ("HD95 mm", 2),
    "VolumeErrorMl": ("Volume error ml", 2),
}

EMPTY = {
    "both": "empty in reference and prediction, left out of the mean",
    "reference_only": "predicted where the reference is empty, scored as Dice 0",
    "prediction_only": "empty only in the prediction, scored as Dice 0",
}


def evaluate(
    reference: Annotated[Path, typer.Argument(help="Label file, or folder of label files, taken as the truth.")],
    prediction: Annotated[Path, typer.Argument(help="Predicted file, or folder of files named like the references.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write every score to this file (summary.json).")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help='What to score, such as "liver=1,spleen=2"; by default every label found.'),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of a table.")] = False,
) -> None:
    """Score predictions: Dice, precision, recall, surface distances and volume error, per label and case.

    An empty or missing prediction is penalised, never dropped. Exit code 1 when predictions were missing.
    """
    from attunet.evaluation import evaluate as run

    wanted = parse_labels(labels)
    with progress_bar() as progress:
        task = progress.add_task("evaluating", total=None)
        summary = run(
            reference,
            prediction,
            labels=wanted,
            advance=lambda done, every: progress.update(task, completed=done, total=every),
        )
    if output:
        summary.write(output)
    if as_json:
        typer.echo(summary.to_json(), nl=False)
    else:
        results().print(score_table(summary), *worst_cases(summary), sep="\n", highlight=False)
    for line in remarks(summary):
        notes().print(line, highlight=False)
    if summary.missing_predictions:
        raise typer.Exit(1)


def score_table(summary: Summary) -> Table:
    """Mean and standard deviation over the cases of each label, narrow enough for 80 characters."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    count = len(summary.cases)
    title = f"{count} cases: mean ± standard deviation" if count != 1 else "1 case"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left", padding=(0, 1))
    table.add_column("Label", style="bold", overflow="fold")
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right", min_width=max(map(len, heading.split())))
    for label in summary.labels:
        cells = (_cell(summary, label, metric, digits) for metric, (_, digits) in COLUMNS.items())
        table.add_row(escape(label), *cells)
    if len(summary.labels) > 1:
        table.add_section()
        means = (f"{summary.foreground_mean(metric):.{digits}f}" for metric, (_, digits) in COLUMNS.items())
        table.add_row("mean", *means)
    return table


def worst_cases(summary: Summary) -> list[str]:
    """One line per label with its worst case, if there is more than one case."""
    from rich.markup import escape

    found = {label: summary.worst(label) for label in summary.labels if len(summary.cases) > 1}
    return [
        f"worst {escape(label)}: {escape(worst[0])}, Dice {worst[1]:.3f}" for label, worst in found.items() if worst
    ]


def remarks(summary: Summary) -> list[str]:
    """What the means do not tell: missing, surplus and empty masks."""
    from rich.markup import escape

    lines = []
    for label in summary.labels:
        counts = summary.empty(label)
        lines += [
            f"[yellow]{escape(label)}: {counts[kind]} case(s) {text}[/]" for kind, text in EMPTY.items() if counts[kind]
        ]
    if summary.missing_predictions:
        lines.append(f"[red]no prediction, scored as empty: {escape(_listed(summary.missing_predictions))}[/]")
    if summary.extra_predictions:
        lines.append(f"[yellow]no reference, not scored: {escape(_listed(summary.extra_predictions))}[/]")
    return lines


def _cell(summary: Summary, label: str, metric: str, digits: int) -> str:
    from math import isnan

    mean, deviation = summary.mean(label, metric), summary.deviation(label, metric)
    if isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" if isnan(deviation) else f"{mean:.{digits}f}\n[dim]± {deviation:.{digits}f}[/dim]"


def _listed(cases: tuple[str, ...], most: int = 8) -> str:
    rest = len(cases) - most
    return ", ".join(cases[:most]) + (f" and {rest} more" if rest > 0 else "")
