"""Loggers beside log.csv, lightning's own, all of them writing into the fold's folder."""

from __future__ import annotations

import lightning.pytorch as pl

from attunet.config import TrainingConfig
from attunet.errors import EngineError
from attunet.training.paths import FoldPaths

__all__ = ["make_loggers"]


def make_loggers(config: TrainingConfig, paths: FoldPaths, name: str) -> list[pl.loggers.Logger]:
    """The loggers that the recipe names; W&B offline, to be synchronised later by its own command.

    Raises: EngineError when a logger's package is not installed.
    """
    return [_make(kind, paths, name) for kind in config.loggers]


def _make(kind: str, paths: FoldPaths, name: str) -> pl.loggers.Logger:
    try:
        if kind == "tensorboard":
            return pl.loggers.TensorBoardLogger(paths.folder, name="", version="tensorboard")
        if kind == "mlflow":
            database = f"sqlite:///{(paths.folder / 'mlflow.db').resolve()}"
            return pl.loggers.MLFlowLogger(experiment_name=name, run_name=paths.name, tracking_uri=database)
        (paths.folder / "wandb").mkdir(parents=True, exist_ok=True)
        return pl.loggers.WandbLogger(project=name, name=paths.name, save_dir=paths.folder, offline=True)
    except ModuleNotFoundError as error:
        raise EngineError(
            f"the logger {kind} is not installed", hint=f"install it with: pip install {kind}, or leave it out"
        ) from error
