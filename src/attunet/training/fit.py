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
from attunet.data.folds import Split, assign_groups
from attunet.data.labels import rename_annotated
from attunet.errors import ConfigError, EngineError
from attunet.files import write_text
from attunet.training.finish import FoldResult, finish_fold, finished_fold
from attunet.training.processes import barrier, cpu_contention, is_rank_zero
from attunet.training.run_folder import FoldPaths, FoldTraining, any_started, default_store, fix_folds, require_fold
from attunet.training.store import store_cases
from attunet.training.trainer import MakeCallbacks, TrainerOptions, Warn, train_network

__all__ = ["FitCallbacks", "fit", "training_device"]

Advance = Callable[[], None]


@dataclass(frozen=True)
class FitCallbacks:
    """Where a training reports to: each is called as the work goes on."""

    stored: Advance = lambda: None
    training: MakeCallbacks = lambda _schedule, _history: ()
    validated: Advance = lambda: None
    notice: Warn = lambda _text: None


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
        another plan; DatasetError when one side of the fold knows the other; what storing, training and finishing
        raise; KeyboardInterrupt when stopped from outside.
    """
    accelerator = training_device(device)
    dataset = rename_annotated(assign_groups(dataset, config.group_by), plan.labels)
    require_fold(dataset, config, run, fold)
    paths = FoldPaths(fold_folder(run, fold))
    if is_rank_zero():
        _check_run(run, plan, paths, resume)
    if not paths.last.exists() and (sealed := finished_fold(run, fold, paths)):
        return sealed  # without its checkpoint it cannot be trained further
    cases = {case.id: case for case in dataset.labelled if case.split != "test"}
    stored = store_cases(list(cases.values()), plan, store or default_store(), geometry=geometry, advance=report.stored)
    split = fix_folds(dataset, config, run, stored)[fold]
    if is_rank_zero():
        _describe(run, plan, config, Split(dataset.root.resolve(), geometry, split.train, split.validation), paths)
    if accelerator == "cpu" and is_rank_zero() and (warning := cpu_contention(torch.get_num_threads())):
        report.notice(warning)
    training = FoldTraining(
        train=[stored[name] for name in split.train],
        validation=[stored[name] for name in split.validation],
        plan=plan,
        config=config,
        paths=paths,
    )
    options = TrainerOptions(accelerator=accelerator, resume=resume, callbacks=report.training, warn=report.notice)
    history = train_network(training, options)
    if not is_rank_zero():
        return _result_of_the_first(run, fold, paths)
    result = None if history.grown else finished_fold(run, fold, paths)
    if result is None:
        judged = [cases[name] for name in split.validation]
        result = finish_fold(plan, run, fold, paths, history, judged, geometry=geometry, advance=report.validated)
    barrier()
    return result


def _result_of_the_first(run: Path, fold: int, paths: FoldPaths) -> FoldResult:
    """What the first process made of the fold, once it is done."""
    barrier()
    result = finished_fold(run, fold, paths)
    assert result is not None
    return result


def training_device(device: str) -> str:
    """The accelerator for auto, cpu or cuda. Raises: EngineError when it is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("no CUDA device can be used here", hint="use --device cpu, or install a CUDA build of torch")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r} is unknown", hint="choose auto, cpu or cuda")
    return device


def _check_run(run: Path, plan: Plan, paths: FoldPaths, resume: bool) -> None:
    if paths.started and not resume:
        raise ConfigError(
            f"{paths.folder} holds a training already", hint="add --resume to go on, or choose another -o"
        )
    written = run / "plan.json"
    if any_started(run) and written.exists() and load_settings(Plan, written) != plan:
        raise ConfigError(f"{run} was started with another plan", hint="leave out --plan, or choose another -o")


def _describe(run: Path, plan: Plan, config: TrainingConfig, split: Split, paths: FoldPaths) -> None:
    save_plan(plan, run)
    write_text(run / "training.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    split.write(paths.folder)
