"""`attunet evaluate`: score predictions against references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import fail, progress_bar, show
from attunet.cli.dataset_options import LabelKeyOption
from attunet.cli.options import DeviceOption, parse_labels
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from attunet.data.cases import Case
    from attunet.selection.cross_validation import CrossValidation

__all__ = ["evaluate"]


def evaluate(
    reference: Annotated[Path | None, typer.Argument(help="Reference label file, or folder of label files.")] = None,
    prediction: Annotated[
        Path | None, typer.Argument(help="Predicted file, or folder of files named like the references.")
    ] = None,
    cross_validation: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Evaluate the folds of a run on their held-out cases instead, and calibrate the model."
        ),
    ] = None,
    unseen: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="With --cross-validation: labelled cases that no fold has seen, on which the number of folds that are "
            "averaged is decided.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write every score to this file (summary.json).")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help='Labels to score, such as "liver=1,spleen=2". [default: every label found]'),
    ] = None,
    label_key: LabelKeyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON instead of a table.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Score predictions: Dice, precision, recall, surface distances and volume error, per label and case.

    Empty and missing predictions are penalised, never dropped. A case that cannot be scored is listed, and the others
    are scored. The exit code is 1 if predictions are missing, or cases could not be scored.
    With --cross-validation, every fold of RUN segments its held-out cases. On these masks, mirroring, operating point,
    post-processing, the temperature of the probabilities, the rank correlation of the expected Dice and the
    prediction intervals are determined; `attunet predict` applies them. Scores, masks and a report are written to
    RUN/cross_validation.
    """
    from rich.text import Text

    from attunet.cli.tables.scores import score_table, score_warnings, skeleton_recalls, worst_cases
    from attunet.evaluation import evaluate as run

    if cross_validation is not None:
        _cross_validate(cross_validation, (reference, labels), output, as_json, device, unseen)
        return
    if unseen is not None:
        raise ConfigError("evaluate got --unseen alone", hint="add --cross-validation RUN")
    if reference is None or prediction is None:
        raise ConfigError(
            f"evaluate got {'no REFERENCE' if reference is None else 'no PREDICTION'}",
            hint="give REFERENCE and PREDICTION (files or folders), or --cross-validation RUN",
        )
    selected = parse_labels(labels)
    with progress_bar() as progress:
        task = progress.add_task("evaluating", total=None)
        summary = run(
            reference,
            prediction,
            labels=selected,
            key=label_key,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if output:
        summary.write(output)
    if as_json:
        typer.echo(summary.to_json(), nl=False)
    else:
        show(score_table(summary))
        for line in (*worst_cases(summary), *skeleton_recalls(summary)):
            show(Text(line))
    show(*score_warnings(summary), stderr=True)
    for case, reason in summary.failed.items():
        fail(f"{case} could not be scored, and is in no mean: {reason}")
    if summary.missing_predictions or summary.failed:
        raise typer.Exit(1)


def _cross_validate(
    run: Path, given: tuple[object, ...], output: Path | None, as_json: bool, device: str, unseen: Path | None
) -> None:
    """`given` are the arguments that are valid only for a comparison of files."""
    from attunet.cli.tables.scores import show_cross_validation
    from attunet.selection.unseen import unseen_cases

    if any(value is not None for value in given):
        raise ConfigError(
            "evaluate got --cross-validation together with REFERENCE, PREDICTION or --labels",
            hint="use one or the other: a run is evaluated on its own cases and labels",
        )
    cases = () if unseen is None else unseen_cases(run, unseen)  # whatever is wrong with them is said before any work
    validated = cross_validate_run(run, device)
    if cases:
        _measure_folds(run, cases, device)
        validated = cross_validate_run(run, device)  # from the cache, for a report with both
    if output:
        validated.summary.write(output)
    if as_json:
        typer.echo(validated.summary.to_json(), nl=False)
    else:
        show_cross_validation(validated)
    for case, reason in validated.failed.items():
        fail(f"{case} could not be used, and counts nowhere: {reason}")
    if validated.failed:
        raise typer.Exit(1)


def cross_validate_run(run: Path, device: str = "auto") -> CrossValidation:
    """Cross-validate a run and show the progress. Raises: as `cross_validate`."""
    from attunet.selection.cross_validation import cross_validate

    with progress_bar() as progress:
        task = progress.add_task("cross-validating", total=None)
        return cross_validate(
            run,
            device=device,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _measure_folds(run: Path, cases: Sequence[Case], device: str) -> None:
    """Decide the number of folds on unseen cases and show the progress. Raises: as `measure_folds`."""
    from attunet.failures import Failures
    from attunet.selection.unseen import measure_folds

    failures = Failures()
    with progress_bar() as progress:
        task = progress.add_task("measuring folds", total=None)
        measure_folds(
            run,
            cases,
            device=device,
            failures=failures,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    for case, reason in failures.messages.items():
        fail(f"{case} could not be used, and counts for no number of folds: {reason}")
