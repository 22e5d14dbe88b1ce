"""`attunet evaluate`: score predictions against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import notes, progress_bar, results
from attunet.errors import ConfigError

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


def evaluate(
    reference: Annotated[
        Path, typer.Argument(help="Label file, or folder of label files, taken as the truth.")
    ],
    prediction: Annotated[
        Path, typer.Argument(help="Predicted file, or folder of files named like the references.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write every score to this file (summary.json).")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help='What to score, such as "liver=1,spleen=2"; by default every label found.'),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON instead of a table.")
    ] = False,
) -> None:
    """Score predictions: Dice, precision, recall, surface distances and volume error, per label and case.

    An empty or missing prediction is penalised, never dropped. Exit code 1 when predictions were missing.
    """
    from attunet.evaluation import evaluate as run

    wanted = parse_labels(labels) if labels else None
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
        results().print(score_table(summary))
    for line in remarks(summary):
        notes().print(line, highlight=False)
    if summary.missing_predictions:
        raise typer.Exit(1)


def parse_labels(text: str) -> dict[str, int]:
    """Label names and values from "liver=1,spleen=2".

    Raises: ConfigError for an entry that is not NAME=VALUE with a whole number other than 0.
    """
    found: dict[str, int] = {}
    for entry in text.split(","):
        name, _, value = (part.strip() for part in entry.partition("="))
        if not name or not value.isdecimal() or int(value) == 0:
            raise ConfigError(
                f"--labels got {entry.strip()!r}, expected NAME=VALUE with a value above 0",
                hint='write them as "liver=1,spleen=2"',
            )
        found[name] = int(value)
    return found


def score_table(summary: Summary) -> Table:
    """Mean and standard deviation over cases of each label, and its worst case."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{len(summary.cases)} case{'s' if len(summary.cases) != 1 else ''}: mean ± standard deviation",
        title_style="bold",
        title_justify="left",
    )
    table.add_column("Label", style="bold", overflow="fold")
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right")
    table.add_column("Worst case (Dice)", overflow="fold")
    for label in summary.labels:
        worst = summary.worst(label)
        table.add_row(
            label,
            *(_cell(summary, label, metric, digits) for metric, (_, digits) in COLUMNS.items()),
            f"{worst[0]}\n[dim]{worst[1]:.3f}[/dim]" if worst else "–",
        )
    if len(summary.labels) > 1:
        table.add_section()
        means = (f"{summary.foreground_mean(metric):.{digits}f}" for metric, (_, digits) in COLUMNS.items())
        table.add_row("mean", *means, "")
    return table


def remarks(summary: Summary) -> list[str]:
    """What the means do not tell: missing, surplus and empty masks."""
    lines = [
        f"[yellow]{label}: {counts[kind]} case(s) {meaning}[/yellow]"
        for label in summary.labels
        for counts in [summary.empty(label)]
        for kind, meaning in (
            ("both", "empty in reference and prediction, left out of the mean"),
            ("reference_only", "predicted where the reference is empty, scored as Dice 0"),
            ("prediction_only", "empty only in the prediction, scored as Dice 0"),
        )
        if counts[kind]
    ]
    if summary.missing_predictions:
        lines.append(f"[red]no prediction, scored as empty: {_listed(summary.missing_predictions)}[/red]")
    if summary.extra_predictions:
        lines.append(f"[yellow]no reference, not scored: {_listed(summary.extra_predictions)}[/yellow]")
    return lines


def _cell(summary: Summary, label: str, metric: str, digits: int) -> str:
    from math import isnan

    mean, deviation = summary.mean(label, metric), summary.deviation(label, metric)
    if isnan(mean):
        return "–"
    return (
        f"{mean:.{digits}f}"
        if isnan(deviation)
        else f"{mean:.{digits}f}\n[dim]± {deviation:.{digits}f}[/dim]"
    )


def _listed(cases: tuple[str, ...], most: int = 8) -> str:
    rest = len(cases) - most
    return ", ".join(cases[:most]) + (f" and {rest} more" if rest > 0 else "")
