"""The training history: one row per epoch, kept in the checkpoint, written to log.csv and sent to the loggers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import lightning.pytorch as pl

from attunet.config import TrainingConfig
from attunet.errors import EngineError
from attunet.files import write_text
from attunet.training.callbacks.schedule import Schedule
from attunet.training.run_folder import FoldPaths

__all__ = ["LOGGERS", "History", "make_loggers", "require_loggers"]


class History(pl.Callback):
    """One row per epoch: epoch, step, minutes, learning_rate, loss, gates, and Dice per label where validated.

    `validation` and `gates` hold the columns of the current epoch so far.
    """

    def __init__(self, schedule: Schedule, paths: FoldPaths) -> None:
        self._schedule = schedule
        self._paths = paths
        self.rows: list[dict[str, float]] = []
        self.validation: dict[str, float] = {}
        self.gates: dict[str, float] = {}
        self._restored = 0

    @property
    def grown(self) -> bool:
        """Whether an epoch was trained since the history was created or restored."""
        return len(self.rows) > self._restored

    def add_validation(self, mean: float, scores: dict[str, float]) -> None:
        """Add the mean Dice and the Dice of each label to the current epoch."""
        self.validation = {"dice": mean, **{f"dice_{name}": value for name, value in scores.items()}}

    def add_gates(self, columns: dict[str, float]) -> None:
        """Add statistics of a gate to the current epoch, by column."""
        self.gates |= columns

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the row, write the file, log to the other loggers."""
        row = {
            "epoch": float(trainer.current_epoch),
            "step": float(trainer.global_step),
            "minutes": round(self._schedule.elapsed / 60, 3),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "loss": float(trainer.callback_metrics.get("loss", float("nan"))),
            **self.gates,
            **self.validation,
        }
        self.rows.append(row)
        self.gates, self.validation = {}, {}
        for logger in trainer.loggers:
            logger.log_metrics(
                {name: value for name, value in row.items() if name != "epoch"}, step=trainer.global_step
            )
        if trainer.is_global_zero:
            write_text(self._paths.log, _table(self.rows))

    def state_dict(self) -> dict[str, Any]:
        """The state for resuming."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore that state."""
        self.rows = list(state_dict["rows"])
        self._restored = len(self.rows)


def _table(rows: list[dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def require_loggers(config: TrainingConfig) -> None:
    """Raises: EngineError when the package of a logger in the recipe is not installed."""
    for name in config.loggers:
        if find_spec(name) is None:
            raise EngineError(f"the logger {name} is not installed", hint=f"install it with: pip install {name}")


def make_loggers(config: TrainingConfig, paths: FoldPaths, project: str) -> list[pl.loggers.Logger]:
    """Create the recipe's loggers, which write into the fold's folder.

    Args:
        config: the recipe.
        paths: the files of the fold.
        project: project name in the loggers.
    Returns: lightning's loggers, in the recipe's order.
    Raises: EngineError when a logger's package is not installed.
    """
    require_loggers(config)
    return [LOGGERS[name](paths, project) for name in config.loggers]


def _tensorboard(paths: FoldPaths, _project: str) -> pl.loggers.Logger:
    return pl.loggers.TensorBoardLogger(paths.folder, name="", version="tensorboard")


def _mlflow(paths: FoldPaths, project: str) -> pl.loggers.Logger:
    database = f"sqlite:///{(paths.folder / 'mlflow.db').resolve()}"
    return pl.loggers.MLFlowLogger(experiment_name=project, run_name=paths.name, tracking_uri=database)


def _wandb(paths: FoldPaths, project: str) -> pl.loggers.Logger:
    """A W&B logger in offline mode; runs can be uploaded later with `wandb sync`."""
    (paths.folder / "wandb").mkdir(parents=True, exist_ok=True)
    return pl.loggers.WandbLogger(project=project, name=paths.name, save_dir=paths.folder, offline=True)


LOGGERS: dict[str, Callable[[FoldPaths, str], pl.loggers.Logger]] = {
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}
"""Loggers by their name in a recipe, which is also the name of their package."""
