"""`attunet evaluate`: score predictions against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import notes, progress_bar, results
from attunet.cli.options import DeviceOption, parse_labels
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

INTERVAL = "0.861–0.874"

EMPTY = {
    "both": "empty in reference and prediction, left out of the mean",
    "reference_only": "predicted where the reference is empty, scored as Dice 0",
    "prediction_only": "empty only in the prediction, scored as Dice 0",
}


def evaluate(
    reference: Annotated[
        Path | None, typer.Argument(help="Label file, or folder of label files, taken as the truth.")
    ] = None,
    prediction: Annotated[
        Path | None, typer.Argument(help="Predicted file, or folder of files named like the references.")
    ] = None,
    cross_validation: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Judge a run's folds on the cases they have not seen instead, and learn."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write every score to this file (summary.json).")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help='What to score, such as "liver=1,spleen=2"; by default every label found.'),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of a table.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Score predictions: Dice, precision, recall, surface distances and volume error, per label and case.

    An empty or missing prediction is penalised, never dropped. Exit code 1 when predictions were missing.
    With --cross-validation, every fold of RUN segments the cases it was not trained on; post-processing, the
    temperature of the probabilities and the worth of the expected Dice are decided on these masks, written to
    RUN/refinement.json and applied by `attunet predict`; RUN/cross_validation holds scores, masks and a report.
    """
    from attunet.evaluation import evaluate as run

    if cross_validation is not None:
        _cross_validate(cross_validation, (reference, labels), output, as_json, device)
        return
    if reference is None or prediction is None:
        raise ConfigError(
            f"evaluate got {'no REFERENCE' if reference is None else 'no PREDICTION'}",
            hint="give REFERENCE and PREDICTION (files or folders), or --cross-validation RUN",
        )
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
        lines = (*worst_cases(summary), *skeleton_recalls(summary))
        results().print(score_table(summary), *lines, sep="\n", highlight=False)
    for line in remarks(summary):
        notes().print(line, highlight=False)
    if summary.missing_predictions:
        raise typer.Exit(1)


def _cross_validate(run: Path, given: tuple[object, ...], output: Path | None, as_json: bool, device: str) -> None:
    """`given` is what only a comparison of files takes."""
    from attunet.cli.cross_validation import judge_folds, show_cross_validation

    if any(value is not None for value in given):
        raise ConfigError(
            "evaluate got --cross-validation and also what to compare (REFERENCE, PREDICTION or --labels)",
            hint="give one or the other: a run is judged on its own cases and labels",
        )
    found = judge_folds(run, device)
    if output:
        found.summary.write(output)
    if as_json:
        typer.echo(found.summary.to_json(), nl=False)
    else:
        show_cross_validation(found)


def score_table(summary: Summary) -> Table:
    """Mean and standard deviation over the cases of each label, and how far the mean Dice can be trusted.

    Narrow enough for 80 characters.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    count = len(summary.cases)
    title = f"{count} cases: mean ± standard deviation, 95 % interval of the mean Dice" if count != 1 else "1 case"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left", padding=(0, 1))
    table.add_column("Label", style="bold", overflow="fold")
    for heading, _ in COLUMNS.values():
        widest = len(INTERVAL) if heading == "Dice" else max(map(len, heading.split()))
        table.add_column(heading, justify="right", min_width=widest)
    for label in summary.labels:
        cells = [_cell(summary, label, metric, digits) for metric, (_, digits) in COLUMNS.items()]
        table.add_row(escape(label), *_with_interval(cells, summary.interval(label)))
    if len(summary.labels) > 1:
        table.add_section()
        means = [f"{summary.foreground_mean(metric):.{digits}f}" for metric, (_, digits) in COLUMNS.items()]
        table.add_row("mean", *_with_interval(means, summary.foreground_interval()))
    return table


def worst_cases(summary: Summary) -> list[str]:
    """One line per label with its worst case, if there is more than one case."""
    from rich.markup import escape

    found = {label: summary.worst(label) for label in summary.labels if len(summary.cases) > 1}
    return [
        f"worst {escape(label)}: {escape(worst[0])}, Dice {worst[1]:.3f}" for label, worst in found.items() if worst
    ]


def skeleton_recalls(summary: Summary, most: int = 6) -> list[str]:
    """One line of the skeleton recall per label, lowest first, where any label has one; at most so many."""
    from math import isnan

    from rich.markup import escape

    found = {label: summary.mean(label, "SkeletonRecall") for label in summary.labels}
    lowest = sorted((value, label) for label, value in found.items() if not isnan(value))
    listed = ", ".join(f"{escape(label)} {value:.3f}" for value, label in lowest[:most])
    more = f" and {len(lowest) - most} higher" if len(lowest) > most else ""
    return [f"recall of the skeleton (thin parts): {listed}{more}"] if lowest else []


def remarks(summary: Summary) -> list[str]:
    """What the means do not tell: missing, surplus and empty masks."""
    from rich.markup import escape

    lines = []
    for label in summary.labels:
        counts = summary.empty(label)
        lines += [
            f"[yellow]{escape(label)}: {counts[kind]} case(s) {text}[/]" for kind, text in EMPTY.items() if counts[kind]
        ]
        drawn = sum(label in case.scores for case in summary.cases)
        if drawn < len(summary.cases):
            lines.append(f"[yellow]{escape(label)}: drawn, and scored, in {drawn} of {len(summary.cases)} cases[/]")
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


def _with_interval(cells: list[str], interval: tuple[float, float]) -> list[str]:
    """The cells of a row, the confidence interval of the Dice below the Dice, which comes first."""
    from math import isnan

    low, high = interval
    return cells if isnan(low) else [f"{cells[0]}\n[dim]{low:.3f}–{high:.3f}[/dim]", *cells[1:]]


def _listed(cases: tuple[str, ...], most: int = 8) -> str:
    rest = len(cases) - most
    return ", ".join(cases[:most]) + (f" and {rest} more" if rest > 0 else "")
