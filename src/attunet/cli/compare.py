"""`attunet compare`: does the gate help on these data? Trains variants alike, or takes runs that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import notes, progress_bar
from attunet.cli.options import (
    DeviceOption,
    GeometryOption,
    LabelsOption,
    NetworkOption,
    SizeOption,
    SpatialDimsOption,
    parse_folds,
    parse_time,
)
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["compare"]

_FOR_RUNS = {"sources", "output", "fold", "device"}
"""What may be said of runs that are there: all else is about training."""


def compare(
    context: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="DATASET | RUN_A RUN_B...", help="A data set to train on, or model folders of one."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Where report, summary and trained models go.")
    ],
    variants: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="What to train, by commas; the first is compared with each other one. Known: gated, ungated, wider "
            "(ungated with as many weights), additive, multi, projected, supervised, sparse.",
        ),
    ] = "gated,ungated,wider",
    fold: Annotated[str, typer.Option(help="Folds of the cross-validation: 0,1,2 or all.")] = "all",
    max_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Train each variant and fold this long (90s, 15m, 2h).")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train each variant and fold this many epochs. [default: 200]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of folds, weights, patches. [default: 0]")] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file with training settings; flags win over it.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="The gated plan.json to vary.")] = None,
    network: NetworkOption = "default",
    size: SizeOption = "auto",
    spatial_dims: SpatialDimsOption = None,
    labels: LabelsOption = None,
    device: DeviceOption = "auto",
    geometry: GeometryOption = "fail",
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where preprocessed cases are kept. [default: ~/.cache/attunet/store]"),
    ] = None,
) -> None:
    """Say whether the gate helps on your data, with the difference, its interval and what chance could do.

    Trains every variant on the same folds, seeds, patches and budget into DIR/VARIANT, fold by fold; the same command
    again goes on where it was stopped. Or compares runs that are there. Each is judged on cases it has not seen.
    """
    from attunet.data.cases import read_dataset

    if _are_runs(sources):
        from attunet.selection.ensemble import name_runs

        _refuse_training_flags(context)
        _judge(name_runs(sources), output, device, fold)
        return
    from attunet.cli.comparison_run import Request, train_variants
    from attunet.cli.plan import plan_options
    from attunet.cli.training_run import require_training, training_settings
    from attunet.planning.variants import VARIANTS, parse_variants

    names = parse_variants(variants)
    require_training()
    config = training_settings(recipe, output, True, epochs=epochs, max_time=parse_time(max_time), seed=seed)
    request = Request(read_dataset(sources[0]), names, config, output, fold, device, geometry, store)
    options = plan_options(network, size, None, spatial_dims, device, geometry=geometry)
    train_variants(request, plan, options, labels)
    _judge({name: output / name for name in names}, output, device, "all", VARIANTS)


def _are_runs(sources: list[Path]) -> bool:
    """Whether these are model folders. Raises: ConfigError for a mixture, or several data sets."""
    runs = [source for source in sources if (source / "plan.json").is_file() and any(source.glob("fold_*"))]
    if not runs and len(sources) == 1:
        return False
    if others := [source for source in sources if source not in runs]:
        what = "no model folder" if runs else "data sets, expected one"
        raise ConfigError(
            f"{', '.join(map(str, others))}: {what}", hint="give one DATASET to train on, or two or more RUN folders"
        )
    return True


def _refuse_training_flags(context: typer.Context) -> None:
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if surplus := [f"--{name.replace('_', '-')}" for name in given if name not in _FOR_RUNS]:
        raise ConfigError(
            f"{', '.join(surplus)}: these runs are trained already", hint="leave it out, or give a data set to train on"
        )


def _judge(
    runs: Mapping[str, Path], output: Path, device: str, fold: str, told: Mapping[str, str] | None = None
) -> None:
    """Compare with progress shown, write the report, print the tables."""
    from attunet.cli.tables.scores import show_comparison
    from attunet.selection.comparison import compare_runs, write_comparison

    with progress_bar() as progress:
        task = progress.add_task("comparing", total=None)
        found = compare_runs(
            runs,
            output,
            device=device,
            folds=parse_folds(fold),
            descriptions=told,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_comparison(found, output)
    show_comparison(found)
    notes().print(f"report: {output / 'report.html'}", soft_wrap=True, markup=False, highlight=False)
