"""`attunet select`: the best of several runs, or of their ensembles, as a model of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import notes, progress_bar, results
from attunet.cli.options import DeviceOption

if TYPE_CHECKING:
    from rich.table import Table

    from attunet.config import Quality
    from attunet.selection.ensemble import Selection

__all__ = ["select"]


def select(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_A RUN_B...", help="Model folders of one data set.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Model folder to write.")],
    device: DeviceOption = "auto",
) -> None:
    """Choose the best run or ensemble by cross-validated Dice, and write it as a model that `predict -m` takes.

    Every run, every pair and all runs together are judged on the validation cases of the folds that all have finished;
    the runs must have been trained on the same folds. 2-D and 3-D runs may be mixed.
    """
    from attunet.errors import ConfigError
    from attunet.selection.ensemble import name_runs, write_selection
    from attunet.selection.ensemble import select as choose

    named = name_runs(runs)
    if output.exists():
        raise ConfigError(f"{output} is there already", hint="choose another -o, or remove it")
    scratch = output.resolve().parent
    scratch.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress:
        task = progress.add_task("comparing", total=None)
        found = choose(
            named,
            device=device,
            scratch=scratch,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    results().print(_table(found), highlight=False)
    write_selection(found, output)
    for line in _worth(found):
        results().print(line, markup=False, highlight=False, soft_wrap=True)
    notes().print(f"written to {output}", markup=False, highlight=False, soft_wrap=True)


def _table(selection: Selection) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    cases, folds = len(selection.chosen.verdicts), ", ".join(map(str, selection.folds))
    title = f"{cases} unseen cases of fold {folds}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_style="bold", title_justify="left")
    table.add_column("Candidate", overflow="fold")
    for heading in ("Dice", "95% CI", "s per case"):
        table.add_column(heading, justify="right")
    for candidate in sorted(selection.candidates, key=lambda entry: -entry.mean_dice):
        low, high = candidate.interval
        chosen = candidate.members == selection.chosen.members
        cells = (
            escape(candidate.name),
            f"{candidate.mean_dice:.4f}",
            f"{low:.3f}–{high:.3f}",
            f"{candidate.seconds:.2f}",
        )
        table.add_row(*cells, style="bold green" if chosen else None)
    return table


def _worth(selection: Selection) -> list[str]:
    lines = [selection.sentence]
    if selection.quality:
        lines.append(f"Expected Dice against true Dice: {_correlation(selection.quality)}.")
    if selection.agreement:
        lines.append(f"Agreement of the members against true Dice: {_correlation(selection.agreement)}.")
    return lines


def _correlation(quality: Quality) -> str:
    interval = f"{quality.spearman:.2f} ({quality.low:.2f} to {quality.high:.2f})"
    return f"rank correlation {interval} on {quality.cases} unseen cases"
