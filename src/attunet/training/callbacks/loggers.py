"""Loggers beside log.csv, lightning's own, all of them writing into the fold's folder."""

from __future__ import annotations

from importlib.util import find_spec

import lightning.pytorch as pl

from attunet.config import TrainingConfig
from attunet.errors import EngineError
from attunet.training.paths import FoldPaths

__all__ = ["make_loggers", "require_loggers"]


def require_loggers(config: TrainingConfig) -> None:
    """Raises: EngineError when the package of a logger that the recipe names is not installed."""
    for kind in config.loggers:
        if find_spec(kind) is None:
            raise EngineError(f"the logger {kind} is not installed", hint=f"install it with: pip install {kind}")


def make_loggers(config: TrainingConfig, paths: FoldPaths, name: str) -> list[pl.loggers.Logger]:
    """The loggers that the recipe names; W&B offline, to be synchronised later by its own command.

    Raises: EngineError when a logger's package is not installed.
    """
    require_loggers(config)
    return [_make(kind, paths, name) for kind in config.loggers]


def _make(kind: str, paths: FoldPaths, name: str) -> pl.loggers.Logger:
    if kind == "tensorboard":
        return pl.loggers.TensorBoardLogger(paths.folder, name="", version="tensorboard")
    if kind == "mlflow":
        database = f"sqlite:///{(paths.folder / 'mlflow.db').resolve()}"
        return pl.loggers.MLFlowLogger(experiment_name=name, run_name=paths.name, tracking_uri=database)
    (paths.folder / "wandb").mkdir(parents=True, exist_ok=True)
    return pl.loggers.WandbLogger(project=name, name=paths.name, save_dir=paths.folder, offline=True)
