"""Train one fold of a plan, from data set to a sealed model folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from attunet.bundle import fold_folder, save_plan
from attunet.config import Plan, TrainingConfig
from attunet.data.cases import Dataset, GeometryPolicy
from attunet.data.folds import Fold, make_folds
from attunet.errors import ConfigError, EngineError
from attunet.files import write_text
from attunet.training.finish import FoldResult, finish_fold
from attunet.training.history import FoldPaths, History
from attunet.training.module import TrainingModule
from attunet.training.patches import patch_loader
from attunet.training.schedule import Schedule
from attunet.training.store import StoredCase, default_store, store_cases
from attunet.training.validation import FullVolumeValidation

__all__ = ["FitCallbacks", "fit", "training_device"]

Advance = Callable[[], None]


@dataclass(frozen=True)
class FitCallbacks:
    """Where a training reports to: each is called as the work goes on."""

    stored: Advance = lambda: None
    training: Callable[[Schedule, History], Sequence[pl.Callback]] = lambda _schedule, _history: ()
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
    Raises: ConfigError when the fold does not exist or has been started and `resume` is not set.
    """
    accelerator = training_device(device)
    split = _split(dataset, config, fold)
    paths = FoldPaths(fold_folder(run, fold))
    if paths.last.exists() and not resume:
        raise ConfigError(
            f"{paths.folder} holds a training already", hint="add --resume to go on, or choose another -o"
        )
    cases = {case.id: case for case in dataset.cases}
    needed = [cases[name] for name in dict.fromkeys((*split.train, *split.validation))]
    stored = store_cases(needed, plan, store or default_store(), geometry=geometry, advance=report.stored)
    _describe(run, plan, config, dataset, split)
    history = _train(stored, split, plan, config, paths, accelerator, resume, report)
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


def _train(
    stored: dict[str, StoredCase],
    split: Fold,
    plan: Plan,
    config: TrainingConfig,
    paths: FoldPaths,
    accelerator: str,
    resume: bool,
    report: FitCallbacks,
) -> History:
    pl.seed_everything(config.seed, workers=False, verbose=False)
    module = TrainingModule(plan, config)
    schedule = Schedule(config)
    history = History(schedule, paths)
    validation = FullVolumeValidation(
        [stored[name] for name in split.validation],
        plan,
        config.validation_fraction,
        schedule,
        history,
        paths,
    )
    checkpoint = ModelCheckpoint(
        paths.last.parent,
        filename=paths.last.stem,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightning's advice on workers and loggers is not the user's concern
        trainer = pl.Trainer(
            accelerator="gpu" if accelerator == "cuda" else "cpu",
            devices=1,
            precision=_precision(config, accelerator),
            max_epochs=-1,
            limit_train_batches=config.steps_per_epoch,
            logger=TensorBoardLogger(paths.folder, name="", version="tensorboard"),
            callbacks=[schedule, validation, history, *report.training(schedule, history), checkpoint],
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=config.steps_per_epoch,
        )
        loader = patch_loader([stored[name] for name in split.train], plan, config, lambda: trainer.global_step)
        trainer.fit(
            module,
            loader,
            ckpt_path=paths.last if resume and paths.last.exists() else None,
            weights_only=True,
        )
    return history


def _precision(config: TrainingConfig, accelerator: str) -> str:
    if config.precision == "fp32":
        return "32-true"
    if accelerator == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "32-true"


def _split(dataset: Dataset, config: TrainingConfig, fold: int) -> Fold:
    folds = make_folds(dataset, config.folds, config.seed)
    if not 0 <= fold < len(folds):
        raise ConfigError(
            f"there is no fold {fold}: this data set gives {len(folds)}",
            hint=f"choose --fold 0..{len(folds) - 1} or all",
        )
    return folds[fold]


def _describe(run: Path, plan: Plan, config: TrainingConfig, dataset: Dataset, split: Fold) -> None:
    save_plan(plan, run)
    write_text(run / "training.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    content = {"dataset": str(dataset.root), "train": list(split.train), "validation": list(split.validation)}
    write_text(fold_folder(run, split.index) / "split.yaml", yaml.safe_dump(content, sort_keys=False))


logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
