"""`attunet select`: the best of several runs, or of their ensembles, as a new model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.cluster_options import (
    AddressOption,
    CpusOption,
    EngineOption,
    GpusOption,
    WorkersOption,
    parse_workers,
)
from attunet.cli.console import fail, notes, progress_bar, results, show
from attunet.cli.options import DeviceOption

if TYPE_CHECKING:
    from attunet.cluster.ray_worker import RayWorkers
    from attunet.selection.candidates import CandidateRunner

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
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = None,
    cpus_per_worker: CpusOption = None,
    gpus_per_worker: GpusOption = None,
) -> None:
    """Choose the best run or ensemble by cross-validated Dice, and write it as a model that `predict -m` takes.

    Every run, every pair and all runs together are evaluated on the validation cases of the folds that all runs have
    finished; the runs must have been trained on the same folds. 2-D and 3-D runs may be mixed. With --engine ray, each
    fold is evaluated on a worker of its own.
    """
    from attunet.cli.tables.scores import selection_sentences, selection_table
    from attunet.selection.ensemble import name_runs
    from attunet.selection.ensemble import select as select_runs

    asked = parse_workers(engine, address, workers, cpus_per_worker, gpus_per_worker)
    with progress_bar() as progress:
        task = progress.add_task("comparing", total=None)
        selection = select_runs(
            name_runs(runs),
            output,
            device=device,
            keep_cases=keep_cases,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            runner=_runner(asked),
        )
    show(selection_table(selection))
    for line in selection_sentences(selection):
        results().print(line, markup=False, highlight=False, soft_wrap=True)
    notes().print(f"written to {output}", markup=False, highlight=False, soft_wrap=True)
    for case, reason in selection.failed.items():
        fail(f"{case} could not be used, and counts for no candidate: {reason}")
    if selection.failed:
        raise typer.Exit(1)


def _runner(workers: RayWorkers | None) -> CandidateRunner:
    """What evaluates the folds: these workers, or this process."""
    if workers is None:
        from attunet.selection.candidates import evaluate_in_turn

        return evaluate_in_turn
    from attunet.cluster.candidates import ClusterCandidates
    from attunet.cluster.ray_engine import RayEngine

    return ClusterCandidates(
        lambda make, payload: RayEngine(make, payload, workers, on_notice=fail),
        device="cuda" if workers.gpus else "cpu",
        cores=workers.cpus,
    )
