"""Train one fold of a plan, from data set to a sealed model folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from attunet.bundle import fold_folder, save_plan
from attunet.config import Plan, TrainingConfig, load_settings
from attunet.data.cases import Dataset, GeometryPolicy
from attunet.data.folds import Fold, Split, make_folds
from attunet.errors import ConfigError, EngineError
from attunet.files import write_text
from attunet.training.finish import FoldResult, finish_fold, finished_fold
from attunet.training.loop import MakeCallbacks, train_network
from attunet.training.paths import FoldPaths, any_started
from attunet.training.store import default_store, store_cases

__all__ = ["FitCallbacks", "fit", "training_device"]

Advance = Callable[[], None]


@dataclass(frozen=True)
class FitCallbacks:
    """Where a training reports to: each is called as the work goes on."""

    stored: Advance = lambda: None
    training: MakeCallbacks = lambda _schedule, _history: ()
    validated: Advance = lambda: None


def fit(
    dataset: Dataset,
    plan: Plan,
    config: TrainingConfig,
    run: Path,
    *,
    fold: int = 0,
    device: str = "auto",
    resume: bool = False,
    geometry: GeometryPolicy = "fail",
    store: Path | None = None,
    report: FitCallbacks = FitCallbacks(),
) -> FoldResult:
    """Train a fold and leave a model in `run` that needs neither torch nor pickle to be used.

    Args: data set, plan and recipe; the model folder; fold index; auto, cpu or cuda; whether to go on from the last
        checkpoint; what to do when image and label grids differ; where preprocessed cases are kept; progress.
    Returns: the finished fold; at once when it was finished before and the budget holds nothing more.
    Raises: ConfigError when the fold does not exist, was started and `resume` is not set, or the run was started with
        another plan; what storing, training and finishing raise; KeyboardInterrupt when stopped from outside.
    """
    accelerator = training_device(device)
    split = _split(dataset, config, fold)
    paths = FoldPaths(fold_folder(run, fold))
    _check_run(run, plan, paths, resume)
    _describe(run, plan, config, dataset, split, geometry)
    cases = {case.id: case for case in dataset.cases}
    needed = [cases[name] for name in dict.fromkeys((*split.train, *split.validation))]
    stored = store_cases(needed, plan, store or default_store(), geometry=geometry, advance=report.stored)
    history = train_network(
        [stored[name] for name in split.train],
        [stored[name] for name in split.validation],
        plan,
        config,
        paths,
        accelerator=accelerator,
        resume=resume,
        callbacks=report.training,
    )
    if not history.grown and (finished := finished_fold(run, fold, paths)):
        return finished
    validation = [cases[name] for name in split.validation]
    return finish_fold(plan, run, fold, paths, history, validation, geometry=geometry, advance=report.validated)


def training_device(device: str) -> str:
    """The accelerator for auto, cpu or cuda. Raises: EngineError when it is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("no CUDA device can be used here", hint="use --device cpu, or install a CUDA build of torch")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r} is unknown", hint="choose auto, cpu or cuda")
    return device


def _split(dataset: Dataset, config: TrainingConfig, fold: int) -> Fold:
    folds = make_folds(dataset, config.folds, config.seed)
    if not 0 <= fold < len(folds):
        raise ConfigError(
            f"there is no fold {fold}: this data set gives {len(folds)}",
            hint=f"choose --fold 0..{len(folds) - 1} or all",
        )
    return folds[fold]


def _check_run(run: Path, plan: Plan, paths: FoldPaths, resume: bool) -> None:
    if paths.last.exists() and not resume:
        raise ConfigError(
            f"{paths.folder} holds a training already", hint="add --resume to go on, or choose another -o"
        )
    written = run / "plan.json"
    if any_started(run) and written.exists() and load_settings(Plan, written) != plan:
        raise ConfigError(f"{run} was started with another plan", hint="leave out --plan, or choose another -o")


def _describe(
    run: Path, plan: Plan, config: TrainingConfig, dataset: Dataset, split: Fold, geometry: GeometryPolicy
) -> None:
    save_plan(plan, run)
    write_text(run / "training.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    seen = Split(dataset.root.resolve(), geometry, split.train, split.validation)
    seen.write(fold_folder(run, split.index))
