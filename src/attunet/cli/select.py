"""`attunet select`: the best of several runs, or of their ensembles, as a new model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attunet.cli.console import fail, notes, progress_bar, results, show
from attunet.cli.options import DeviceOption

__all__ = ["select"]


def select(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN_A RUN_B...", help="Model folders trained on one data set.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Model folder to write.")],
    keep_cases: Annotated[
        bool,
        typer.Option(
            "--keep-cases",
            help="Copy the names of cases and the paths of data sets, too, so that explain and cross-validation of DIR "
            "find them. [default: DIR names no case]",
        ),
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Choose the best run or ensemble by cross-validated Dice, and write it as a model that `predict -m` takes.

    Every run, every pair and all runs together are evaluated on the validation cases of the folds that all runs have
    finished; the runs must have been trained on the same folds. 2-D and 3-D runs may be mixed.
    """
    from attunet.cli.tables.scores import selection_sentences, selection_table
    from attunet.selection.ensemble import name_runs
    from attunet.selection.ensemble import select as select_runs

    with progress_bar() as progress:
        task = progress.add_task("comparing", total=None)
        selection = select_runs(
            name_runs(runs),
            output,
            device=device,
            keep_cases=keep_cases,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    show(selection_table(selection))
    for line in selection_sentences(selection):
        results().print(line, markup=False, highlight=False, soft_wrap=True)
    notes().print(f"written to {output}", markup=False, highlight=False, soft_wrap=True)
    for case, reason in selection.failed.items():
        fail(f"{case} could not be used, and counts for no candidate: {reason}")
    if selection.failed:
        raise typer.Exit(1)
