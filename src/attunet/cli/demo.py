"""`attunet demo`: the whole life cycle of a model on a synthetic abdomen, up to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attunet.cli.console import results, show
from attunet.cli.options import parse_time, require_training

__all__ = ["demo"]


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for all files.")] = Path("demo"),
    max_time: Annotated[str, typer.Option(metavar="TIME", help="Training time.")] = "90s",
    cases: Annotated[int, typer.Option(min=4, help="Number of synthetic training scans.")] = 20,
    test_cases: Annotated[int, typer.Option(min=1, help="Number of synthetic test scans.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the phantoms and the training.")] = 0,
) -> None:
    """Make a synthetic abdomen data set, train on it, segment new scans, score them, and write an HTML report.

    The organs are liver, spleen, kidneys and a pancreas of low contrast that can only be recognised from its
    surroundings. The report shows where the gates look, and how that developed during training. A second run clears the
    folder and starts again.
    """
    require_training()
    from attunet.cli.tables.scores import score_table
    from attunet.cli.training_progress import DemoDisplay, stoppable
    from attunet.training.demo import DemoOptions, run_demo

    seconds = parse_time(max_time)
    assert seconds is not None
    options = DemoOptions(max_time=seconds, cases=cases, test_cases=test_cases, seed=seed)
    with DemoDisplay() as display, stoppable("the same command"):
        finished = run_demo(output, options, callbacks=display)
    show(score_table(finished.summary))
    results().print(f"report: {finished.report.resolve()}", soft_wrap=True, markup=False, highlight=False)
