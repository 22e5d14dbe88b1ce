"""`attunet train`: from a folder of labelled scans to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attunet.cli.console import notes, progress_bar, results
from attunet.cli.options import (
    DatasetArgument,
    DeviceOption,
    GateOption,
    Geometry,
    GeometryOption,
    LabelsOption,
    NetworkOption,
    SizeOption,
    SpatialDimsOption,
    parse_folds,
    parse_time,
)
from attunet.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from attunet.config import Plan, TrainingConfig
    from attunet.data.cases import Dataset
    from attunet.training.finish import FoldResult

__all__ = ["require_training", "train", "train_fold"]


def train(
    dataset: DatasetArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="The model folder to make.")],
    fold: Annotated[str, typer.Option(help="Fold of the cross-validation: 0 to 4, or all, one after another.")] = "0",
    network: NetworkOption = "default",
    size: SizeOption = "auto",
    gate: GateOption = None,
    spatial_dims: SpatialDimsOption = None,
    labels: LabelsOption = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Train this many epochs. [default: 200]")] = None,
    max_time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Train this long instead (90s, 15m, 2h); the rate ends with it."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file with training settings; flags win over it.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Train this plan.json instead of a new one.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in RUN.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of folds, weights, patches. [default: 0]")] = None,
    device: DeviceOption = "auto",
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
    from rich.markup import escape

    from attunet.bundle import fold_folder
    from attunet.cli.plan import make_dials
    from attunet.data.cases import read_dataset
    from attunet.training.paths import FoldPaths

    config = _config(recipe, output, resume, epochs=epochs, max_time=parse_time(max_time), seed=seed)
    source = read_dataset(dataset)
    folds = _wanted_folds(fold, source, config)
    if not resume and any(FoldPaths(fold_folder(output, index)).last.exists() for index in folds):
        raise ConfigError(f"{output} holds a training of this fold already", hint="add --resume, or choose another -o")
    dials = make_dials(network, size, gate, spatial_dims, device)
    made = _plan(output, plan, resume, source, dials, labels, geometry)
    finished = [
        train_fold(source, made, config, output, index, device=device, resume=resume, geometry=geometry, store=store)
        for index in folds
    ]
    for result in finished:
        _show(result)
    where = escape(str(output))
    notes().print(f"model: {where}   next: attunet predict -m {where} -i IMAGES -o MASKS", soft_wrap=True)


def train_fold(
    source: Dataset,
    plan: Plan,
    config: TrainingConfig,
    run: Path,
    fold: int,
    *,
    device: str = "auto",
    resume: bool = False,
    geometry: Geometry = "fail",
    store: Path | None = None,
) -> FoldResult:
    """Train one fold with its progress shown. Ctrl-C ends the command with 130 and a word on how to go on."""
    from attunet.cli.training_progress import EpochLines, TrainingBar
    from attunet.training.fit import FitCallbacks, fit

    with progress_bar() as progress:
        storing = progress.add_task("preprocess", total=None)
        training = progress.add_task(f"train fold {fold}", total=1.0, visible=False)
        judging = progress.add_task("validate", total=None, visible=False)
        report = FitCallbacks(
            stored=lambda: progress.advance(storing),
            training=lambda schedule, history: (
                TrainingBar(progress, storing, training, judging, schedule, history),
                EpochLines(schedule, history),
            ),
            validated=lambda: progress.advance(judging),
        )
        try:
            return fit(
                source,
                plan,
                config,
                run,
                fold=fold,
                device=device,
                resume=resume,
                geometry=geometry,
                store=store,
                report=report,
            )
        except KeyboardInterrupt:
            progress.stop()
            notes().print("[yellow]stopped: go on with the same command and --resume[/yellow]")
            raise typer.Exit(130) from None


def require_training() -> None:
    """Raises: EngineError when the training extra is not installed."""
    from importlib.util import find_spec

    absent = [name for name in ("torch", "lightning", "monai", "blosc2") if find_spec(name) is None]
    if absent:
        raise EngineError(f"training needs {', '.join(absent)}", hint='install them with: pip install "attunet[train]"')


def _config(recipe: Path | None, run: Path, resume: bool, **flags: Any) -> TrainingConfig:
    """The recipe (or, when resuming, what the run was started with), and the flags over it."""
    from attunet.config import TrainingConfig, load_settings

    given = {name: value for name, value in flags.items() if value is not None}
    if "epochs" in given and "max_time" in given:
        raise ConfigError("both --epochs and --max-time were given", hint="give one of them")
    if "epochs" in given:
        given["max_time"] = None
    earlier = run / "training.yaml"
    source = earlier if resume and recipe is None and earlier.exists() else recipe
    return load_settings(TrainingConfig, source or {}, **given)


def _wanted_folds(fold: str, source: Dataset, config: TrainingConfig) -> list[int]:
    from attunet.data.folds import make_folds

    count = len(make_folds(source, config.folds, config.seed))
    wanted = list(dict.fromkeys(parse_folds(fold) or range(count)))
    beyond = [index for index in wanted if not 0 <= index < count]
    if beyond:
        raise ConfigError(
            f"--fold got {fold}, this data set gives folds 0 to {count - 1}",
            hint="choose one of them, or all",
        )
    return wanted


def _plan(
    run: Path, given: Path | None, resume: bool, source: Dataset, dials: Any, labels: str | None, geometry: Geometry
) -> Plan:
    """The plan given, or that of a training begun here, or a new one."""
    from rich.markup import escape

    from attunet.cli.plan import plan_dataset, plan_table
    from attunet.config import Plan, load_settings
    from attunet.training.paths import any_started

    existing = run / "plan.json"
    if given is None and existing.exists() and (resume or any_started(run)):
        notes().print(f"using the plan in {escape(str(existing))}", soft_wrap=True)
        return load_settings(Plan, existing)
    made = load_settings(Plan, given) if given else plan_dataset(source, dials, labels, geometry)
    notes().print(plan_table(made))
    return made


def _show(result: FoldResult) -> None:
    from attunet.cli.evaluate import score_table
    from attunet.training.judge import validated_unseen

    if not result.trained:
        notes().print(
            f"fold {result.fold} was finished already: give a larger --epochs or --max-time to train it further"
        )
    seen = "" if validated_unseen(result.folder) else ", [yellow]the same it was trained on[/yellow]"
    results().print(f"[bold]fold {result.fold}[/bold]: validation cases, whole, on their own grid{seen}")
    results().print(score_table(result.summary))
    notes().print(f"report: {result.folder / 'report.html'}", soft_wrap=True, markup=False, highlight=False)
