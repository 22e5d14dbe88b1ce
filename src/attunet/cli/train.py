"""`attunet train`: from a folder of labelled scans to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.cluster_options import AddressOption, CpusOption, EngineOption, GpusOption, WorkersOption
from attunet.cli.console import notes, results
from attunet.cli.dataset_options import AS_FOUND, of_labels, reads_data
from attunet.cli.options import (
    CascadeOption,
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
    parse_folds,
    parse_labels,
    parse_time,
    require_training,
)
from attunet.cli.plan import plan_options
from attunet.data.dataset import DatasetOptions

if TYPE_CHECKING:
    from attunet.training.train import TrainResult

__all__ = ["train"]


@reads_data()
def train(
    dataset: DatasetArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="Model folder to write.")],
    fold: Annotated[
        str,
        typer.Option(
            help="Folds of the cross-validation, such as 0 or 0,2, or all. Several are trained one after another, or "
            "with --engine ray side by side, and then evaluated together."
        ),
    ] = "0",
    network: NetworkOption = None,
    size: SizeOption = "auto",
    memory: MemoryOption = None,
    gate: GateOption = None,
    spatial_dims: SpatialDimsOption = None,
    resolution: ResolutionOption = "auto",
    cascade: CascadeOption = "auto",
    labels: LabelsOption = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs. [default: 200]")] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Training time per fold (90s, 15m, 2h); the learning rate decays to zero at that time.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop after N whole-volume validations without a better Dice."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file of training settings; flags override it.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Train this plan.json instead of making a new plan.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in RUN.")] = False,
    init_weights: Annotated[
        Path | None,
        typer.Option(metavar="RUN|FILE", help="Initialize with the weights of another model, as far as they fit."),
    ] = None,
    freeze_encoder: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Freeze the N finest encoder levels.")
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="Regular expression for the patient in a case's name: '^[^_]+' for p07_scan1."
        ),
    ] = None,
    no_case_images: Annotated[
        bool,
        typer.Option(
            "--no-case-images",
            "--no-film",
            help="Keep no pictures of cases in RUN: no attention frames, and no cases in its reports.",
        ),
    ] = False,
    logger: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Additional loggers, separated by commas, that write into RUN: tensorboard, mlflow, wandb (offline).",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed of folds, weights and patches. [default: 0]")
    ] = None,
    device: DeviceOption = "auto",
    devices: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="GPUs (or CPU processes) that share each batch. [default: 1]")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, metavar="M", help="Machines that share each batch. [default: 1]")
    ] = None,
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
    """Train a segmentation network and write a model folder that predicts without torch.

    Makes a plan first (see `attunet plan`), stores preprocessed cases for later runs, and validates on whole volumes.
    You can stop at any time: --resume continues from the last epoch. With --engine ray, each fold is trained on a
    worker of its own; RUN and the data set must be on storage that all machines share.
    """
    require_training()
    from attunet.cli.cluster_training import fold_workers
    from attunet.cli.tables.scores import show_fold
    from attunet.cli.training_progress import TrainingDisplay, stoppable
    from attunet.config import Plan, load_settings
    from attunet.data.cases import read_dataset
    from attunet.training.fold_jobs import train_in_turn
    from attunet.training.processes import is_rank_zero
    from attunet.training.resume import check_planning
    from attunet.training.train import TrainOptions, resolve_config
    from attunet.training.train import train as train_folds

    notes().quiet = results().quiet = not is_rank_zero()
    config = resolve_config(
        output,
        recipe,
        resume=resume,
        epochs=epochs,
        max_time=parse_time(max_time),
        patience=patience,
        init_weights=str(init_weights) if init_weights else None,
        freeze_encoder=freeze_encoder,
        group_by=group_by,
        case_images=False if no_case_images else None,
        loggers=logger.split(",") if logger else None,
        seed=seed,
        devices=devices,
        nodes=nodes,
    )
    folds = parse_folds(fold)
    count = config.folds if folds is None else len(folds)
    cluster = fold_workers(engine, address, workers, cpus_per_worker, gpus_per_worker, device, jobs=count)
    device = cluster.device if cluster else device
    source = read_dataset(dataset, of_labels(reading, labels))
    planning = plan_options(
        network,
        size,
        gate,
        spatial_dims,
        device,
        memory=memory,
        resolution=resolution,
        cascade=cascade,
        labels=parse_labels(labels, source.label_names),
        geometry=geometry,
    )
    given = load_settings(Plan, plan) if plan else None
    if plan and given:
        check_planning(given, planning, plan)
    options = TrainOptions(
        plan=given or planning,
        config=config,
        folds=folds,
        device=device,
        resume=resume,
        geometry=geometry,
        store=store,
    )
    display = cluster.display if cluster else TrainingDisplay()
    runner = cluster.runner if cluster else train_in_turn
    try:
        with display, stoppable("the same command and --resume"):
            trained = train_folds(source, output, options, callbacks=display, runner=runner)
    finally:  # what is finished is shown, even if the cross-validation fails
        for result in display.folds:
            show_fold(result)
    _show(trained)


def _show(trained: TrainResult) -> None:
    from attunet.bundle import load_bundle
    from attunet.cli.tables.scores import show_cross_validation
    from attunet.inference.engines.precision import int8_choice

    if trained.cross_validation:
        show_cross_validation(trained.cross_validation)
    if reason := int8_choice(load_bundle(trained.run).folds).reason:
        notes().print(f"8-bit integers: {reason}", soft_wrap=True, markup=False, highlight=False)
    next_command = f"attunet predict -m {trained.run} -i IMAGES -o MASKS"
    notes().print(f"model: {trained.run}   next: {next_command}", soft_wrap=True, markup=False, highlight=False)
