"""`attunet evaluate --cross-validation RUN`: what the folds of a run are worth on unseen cases, and what they teach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attunet.cli.console import notes, progress_bar, results

if TYPE_CHECKING:
    from attunet.selection.cross_validation import CrossValidation

__all__ = ["judge_folds", "show_cross_validation"]


def judge_folds(run: Path, device: str = "auto") -> CrossValidation:
    """Cross-validate a run with its progress shown. Raises: as `cross_validate`."""
    from attunet.selection.cross_validation import cross_validate

    with progress_bar() as progress:
        task = progress.add_task("cross-validating", total=None)
        return cross_validate(
            run,
            device=device,
            advance=lambda done, every: progress.update(task, completed=done, total=every),
        )


def show_cross_validation(found: CrossValidation) -> None:
    """Print scores, worst cases, and what was kept and why; what was left out goes to stderr."""
    from rich.markup import escape

    from attunet.cli.evaluate import remarks, score_table

    for notice in found.notices:
        notes().print(f"[yellow]{escape(notice)}[/yellow]", highlight=False)
    printer = results()
    printer.print("[bold]unseen cases, each segmented by the fold that was not trained on it[/bold]")
    printer.print(score_table(found.summary))
    if found.refinement.postprocessing:
        printer.print("[bold]after post-processing[/bold] (decided on the same cases)")
        printer.print(score_table(found.postprocessed))
    for line in _worst(found):
        printer.print(line, highlight=False)
    for what, reason in found.refinement.reasons.items():
        printer.print(f"[bold]{escape(what)}[/bold]: {escape(reason)}", highlight=False)
    for line in remarks(found.summary):
        notes().print(line, highlight=False)
    notes().print(f"report: {found.report}", soft_wrap=True, markup=False, highlight=False)


def _worst(found: CrossValidation) -> list[str]:
    """The worst cases on one line; nothing when there is only one case."""
    from rich.markup import escape

    worst = found.worst()
    if len(found.dice) < 2 or not worst:
        return []
    named = ", ".join(f"{escape(case)} ({found.dice[case].measured:.3f})" for case in worst)
    return [f"[bold]worst cases[/bold] (mean Dice): {named}"]
