"""`attunet train`: from a folder of labelled scans to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import notes, results, show
from attunet.cli.options import (
    DatasetArgument,
    DeviceOption,
    GateOption,
    GeometryOption,
    LabelsOption,
    MemoryOption,
    NetworkOption,
    ResolutionOption,
    SizeOption,
    SpatialDimsOption,
    parse_time,
)
from attunet.cli.training_run import (
    choose_plan,
    require_training,
    show_fold,
    train_fold,
    training_settings,
    wanted_folds,
)
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from attunet.config import Plan, TrainingConfig

__all__ = ["train"]


def train(
    dataset: DatasetArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="The model folder to make.")],
    fold: Annotated[
        str,
        typer.Option(
            help="Folds of the cross-validation, such as 0 or 0,2; all: one after another, then judged together."
        ),
    ] = "0",
    network: NetworkOption = "default",
    size: SizeOption = "auto",
    memory: MemoryOption = None,
    gate: GateOption = None,
    spatial_dims: SpatialDimsOption = None,
    resolution: ResolutionOption = "auto",
    labels: LabelsOption = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Train this many epochs. [default: 200]")] = None,
    max_time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Train each fold this long instead (90s, 15m, 2h); the rate ends with it."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop after N whole-volume validations without a better Dice."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file with training settings; flags win over it.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Train this plan.json instead of a new one.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in RUN.")] = False,
    init_weights: Annotated[
        Path | None,
        typer.Option(metavar="RUN|FILE", help="Start from the weights of another model, as far as they fit."),
    ] = None,
    freeze_encoder: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Leave the N finest encoder levels as they are.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="REGEX", help="What in a case's name is its patient: '^[^_]+' for p07_scan1.")
    ] = None,
    logger: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Log there too, into RUN: tensorboard, mlflow, wandb (offline), by commas."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of folds, weights, patches. [default: 0]")] = None,
    device: DeviceOption = "auto",
    devices: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="GPUs (or CPU processes) that share each batch. [default: 1]")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, metavar="M", help="Machines that do. [default: 1]")] = None,
    geometry: GeometryOption = "fail",
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where preprocessed cases are kept. [default: ~/.cache/attunet/store]"),
    ] = None,
) -> None:
    """Train a segmentation network and leave a model folder that predicts without torch.

    Plans first (see `attunet plan`), keeps preprocessed cases for the next training, validates on whole volumes,
    and can be stopped at any time: --resume goes on from the last epoch.
    """
    require_training()
    from attunet.cli.plan import plan_options
    from attunet.data.cases import read_dataset
    from attunet.training.processes import is_rank_zero

    notes().quiet = results().quiet = not is_rank_zero()
    config = training_settings(
        recipe,
        output,
        resume,
        epochs=epochs,
        max_time=parse_time(max_time),
        patience=patience,
        init_weights=str(init_weights) if init_weights else None,
        freeze_encoder=freeze_encoder,
        group_by=group_by,
        loggers=logger.split(",") if logger else None,
        seed=seed,
        devices=devices,
        nodes=nodes,
    )
    source = read_dataset(dataset)
    folds = wanted_folds(fold, source, config, output)
    _require_resume(output, folds, resume)
    options = plan_options(
        network, size, gate, spatial_dims, device, memory=memory, resolution=resolution, geometry=geometry
    )
    made = choose_plan(output, plan, resume, source, options, labels)
    _tell_start(made, config, resume)
    trained = [
        train_fold(source, made, config, output, index, device=device, resume=resume, geometry=geometry, store=store)
        for index in folds
    ]
    for result in trained:
        show_fold(result)
    _tell_end(output, device, judge_together=len(trained) > 1 and is_rank_zero())


def _require_resume(run: Path, folds: list[int], resume: bool) -> None:
    from attunet.bundle import fold_folder
    from attunet.training.processes import is_rank_zero
    from attunet.training.run_folder import FoldPaths

    if is_rank_zero() and not resume and any(FoldPaths(fold_folder(run, index)).started for index in folds):
        raise ConfigError(f"{run} holds a training of this fold already", hint="add --resume, or choose another -o")


def _tell_start(plan: Plan, config: TrainingConfig, resume: bool) -> None:
    """Refuse what cannot be trained before anything long begins; tell what is loaded from another model."""
    from attunet.training.start import check_start

    if transfer := check_start(plan, config, transfer=not resume):
        from attunet.cli.tables.plans import transfer_table

        show(transfer_table(transfer, str(config.init_weights)), stderr=True)


def _tell_end(run: Path, device: str, *, judge_together: bool) -> None:
    from rich.markup import escape

    if judge_together:
        from attunet.cli.evaluate import cross_validate_run
        from attunet.cli.tables.scores import show_cross_validation

        show_cross_validation(cross_validate_run(run, device))
    where = escape(str(run))
    notes().print(f"model: {where}   next: attunet predict -m {where} -i IMAGES -o MASKS", soft_wrap=True)
