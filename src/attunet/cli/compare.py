"""`attunet compare`: does the gate help on these data? Trains variants, or compares finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.cluster_options import AddressOption, CpusOption, EngineOption, GpusOption, WorkersOption
from attunet.cli.console import notes, progress_bar
from attunet.cli.dataset_options import AS_FOUND, of_labels, reads_data
from attunet.cli.options import (
    DeviceOption,
    GeometryOption,
    LabelsOption,
    NetworkOption,
    SizeOption,
    SpatialDimsOption,
    parse_folds,
    parse_labels,
    parse_time,
    require_training,
)
from attunet.cli.plan import plan_options
from attunet.data.dataset import DatasetOptions
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attunet.cli.cluster_training import FoldWorkers
    from attunet.data.cases import Dataset
    from attunet.evaluation.comparison import ModelComparison
    from attunet.training.variants import VariantOptions

__all__ = ["compare"]

_FOR_RUNS = {"sources", "output", "fold", "device"}
"""The options that apply to finished runs; all others concern training."""


@reads_data()
def compare(
    context: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET | RUN_A RUN_B...", help="A data set to train on, or model folders trained on one."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Folder for the report, the summary and the trained models."
        ),
    ],
    variants: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Variants to train, separated by commas; the first is compared with each other one. Known: gated, "
            "ungated, wider (ungated with as many weights), additive, multi, projected, supervised, sparse.",
        ),
    ] = "gated,ungated,wider",
    fold: Annotated[str, typer.Option(help="Folds of the cross-validation, such as 0 or 0,2, or all.")] = "all",
    max_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Training time per variant and fold (90s, 15m, 2h).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs per variant and fold. [default: 200]")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed of folds, weights and patches. [default: 0]")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file of training settings; flags override it.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The plan.json with a gate from which the variants are made.")
    ] = None,
    network: NetworkOption = None,
    size: SizeOption = "auto",
    spatial_dims: SpatialDimsOption = None,
    labels: LabelsOption = None,
    device: DeviceOption = "auto",
    geometry: GeometryOption = "fail",
    reading: DatasetOptions = AS_FOUND,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for preprocessed cases. [default: ~/.cache/attunet/store]"),
    ] = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    workers: WorkersOption = None,
    cpus_per_worker: CpusOption = None,
    gpus_per_worker: GpusOption = None,
) -> None:
    """Test whether the gate helps on your data: the difference in Dice, its confidence interval and p value.

    Trains every variant on the same folds, seeds, patches and budget into DIR/VARIANT, fold by fold; the same command
    resumes an interrupted comparison. With --engine ray, each variant and fold is trained on a worker of its own. Given
    finished runs, compares those. Each model is evaluated on held-out cases.
    """
    from attunet.data.cases import read_dataset

    if _are_runs(sources):
        from attunet.selection.ensemble import name_runs

        _refuse_training_flags(context)
        _show(_compare_runs(name_runs(sources), output, device, parse_folds(fold)), output)
        return
    require_training()
    from attunet.cli.cluster_training import fold_workers
    from attunet.config import Plan, load_settings
    from attunet.planning.variants import parse_variants
    from attunet.training.resume import check_planning
    from attunet.training.train import resolve_config
    from attunet.training.variants import VariantOptions

    names, folds = parse_variants(variants), parse_folds(fold)
    config = resolve_config(output, recipe, resume=True, epochs=epochs, max_time=parse_time(max_time), seed=seed)
    jobs = len(names) * (config.folds if folds is None else len(folds))
    cluster = fold_workers(engine, address, workers, cpus_per_worker, gpus_per_worker, device, jobs=jobs)
    device = cluster.device if cluster else device
    source = read_dataset(sources[0], of_labels(reading, labels))
    selected = parse_labels(labels, source.label_names)
    planning = plan_options(network, size, None, spatial_dims, device, labels=selected, geometry=geometry)
    given = load_settings(Plan, plan) if plan else None
    if plan and given:
        check_planning(given, planning, plan)
    options = VariantOptions(
        plan=given or planning,
        variants=names,
        config=config,
        folds=folds,
        device=device,
        geometry=geometry,
        store=store,
    )
    _show(_compare_variants(source, output, options, cluster), output)


def _compare_variants(
    dataset: Dataset, output: Path, options: VariantOptions, cluster: FoldWorkers | None
) -> ModelComparison:
    from attunet.cli.training_progress import VariantDisplay, stoppable
    from attunet.training.fold_jobs import train_in_turn
    from attunet.training.variants import compare_variants

    runs = " ".join(str(output / name) for name in options.variants)
    finished = f"to compare the folds that all variants have finished: attunet compare {runs} -o {output}"
    runner = cluster.runner if cluster else train_in_turn
    with (
        cluster.display if cluster else VariantDisplay() as display,
        stoppable(f"the same command; {finished}"),
    ):
        return compare_variants(dataset, output, options, callbacks=display, runner=runner)


def _are_runs(sources: list[Path]) -> bool:
    """Whether these are model folders. Raises: ConfigError for a mixture, or several data sets."""
    runs = [source for source in sources if (source / "plan.json").is_file() and any(source.glob("fold_*"))]
    if not runs and len(sources) == 1:
        return False
    if others := [source for source in sources if source not in runs]:
        what = "not a model folder" if runs else "data sets, expected one"
        raise ConfigError(
            f"{', '.join(map(str, others))}: {what}", hint="give one DATASET to train on, or two or more RUN folders"
        )
    return True


def _refuse_training_flags(context: typer.Context) -> None:
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if surplus := [f"--{name.replace('_', '-')}" for name in given if name not in _FOR_RUNS]:
        raise ConfigError(
            f"{', '.join(surplus)}: these runs are already trained", hint="leave it out, or give a data set to train on"
        )


def _compare_runs(
    runs: Mapping[str, Path], output: Path, device: str, folds: tuple[int, ...] | None
) -> ModelComparison:
    """Compare with progress shown, and write the report."""
    from attunet.selection.comparison import compare_runs, write_comparison

    with progress_bar() as bar:
        task = bar.add_task("comparing", total=None)
        comparison = compare_runs(
            runs,
            output,
            device=device,
            folds=folds,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    write_comparison(comparison, output)
    return comparison


def _show(comparison: ModelComparison, output: Path) -> None:
    from attunet.cli.tables.scores import show_comparison

    show_comparison(comparison)
    notes().print(f"report: {output / 'report.html'}", soft_wrap=True, markup=False, highlight=False)
