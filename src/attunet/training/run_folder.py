"""The folder of a run during training: the files of a fold, and the folds, which are fixed when the first one starts.

Imports neither torch nor blosc2, so that a wrong command is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from attunet.bundle import FoldFiles
from attunet.bundle.fold_files import localizer_folder
from attunet.config import Plan, TrainingConfig
from attunet.data.cases import Case, Dataset
from attunet.data.folds import Fold, check_leaks, make_folds
from attunet.documents import read_document, reading
from attunet.errors import ConfigError
from attunet.files import write_text
from attunet.training.processes import is_rank_zero

if TYPE_CHECKING:
    from attunet.training.store import StoredCase

__all__ = [
    "FoldPaths",
    "FoldTraining",
    "any_started",
    "default_store",
    "describe_store",
    "fix_folds",
    "require_fold",
    "run_folds",
]


@dataclass(frozen=True)
class FoldPaths(FoldFiles):
    """All files of the fold in `folder`: those of the model, and those used only in training."""

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def started(self) -> bool:
        """Whether the fold was started, or is finished and has lost its checkpoint; it must not be overwritten."""
        return self.last.exists() or self.weights.exists() or any(self.folder.glob("localizer_*/checkpoints/last.ckpt"))

    def localizer(self, member: int) -> FoldPaths:
        """All files of a localizer of the fold, by its index."""
        return FoldPaths(localizer_folder(self.folder, member))

    @property
    def context(self) -> Path:
        """What the localizers give the network of the fold for each of its cases, and how it was made."""
        return self.folder / "checkpoints" / "context"

    @property
    def best(self) -> Path:
        """The averaged weights of the best validation."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def recorded_frames(self) -> Path:
        """The attention frames for resuming: one file per recorded validation."""
        return self.folder / "checkpoints" / "attention_frames"

    @property
    def attention_frames(self) -> Path:
        """The attention of a few cases during training, frame by frame."""
        return self.folder / "attention_frames"

    @property
    def progress(self) -> Path:
        """How far a training on another machine is, while it runs."""
        return self.folder / "checkpoints" / "progress.json"

    @property
    def log(self) -> Path:
        """One row per epoch."""
        return self.folder / "log.csv"

    @property
    def report(self) -> Path:
        """Scores, curves and the best, median and worst validation case, to open in a browser."""
        return self.folder / "report.html"

    @property
    def curves(self) -> Path:
        """Loss, learning rate and Dice over the epochs."""
        return self.folder / "curves.png"


@dataclass(frozen=True, kw_only=True)
class FoldTraining:
    """The inputs for training one fold.

    Args:
        train: the training cases.
        validation: the validation cases.
        plan: the plan.
        config: the recipe.
        paths: the files of the fold.
    """

    train: Sequence[StoredCase]
    validation: Sequence[StoredCase]
    plan: Plan
    config: TrainingConfig
    paths: FoldPaths


def any_started(run: Path) -> bool:
    """Whether a fold of this model folder was started, so that its plan and its folds are fixed."""
    return any(FoldPaths(folder).started for folder in run.glob("fold_*"))


def default_store() -> Path:
    """The default folder of preprocessed cases."""
    return Path.home() / ".cache" / "attunet" / "store"


def describe_store() -> str:
    """The number of preprocessed cases in the default folder and its size, in words."""
    store, cases, size = default_store(), 0, 0
    for contents in store.glob("*/contents.json"):
        with suppress(OSError):  # being deleted by another process
            size += sum(file.stat().st_size for file in contents.parent.iterdir())
            cases += 1
    return f"{cases} in {store}, {size / 1e9:.1f} GB, kept for later training runs; you may delete them"


def run_folds(dataset: Dataset, config: TrainingConfig, run: Path) -> tuple[Fold, ...]:
    """The folds of a run, or the folds that a new run would have, without reading any case.

    Args:
        dataset: the labelled cases.
        config: the recipe.
        run: the model folder.
    Returns: the folds; their cases may still change if the run has not started.
    """
    return _written(run) or make_folds(dataset, config.folds, config.seed)


def require_fold(dataset: Dataset, config: TrainingConfig, run: Path, fold: int) -> None:
    """Check that the run has a fold.

    Args:
        dataset: the labelled cases.
        config: the recipe.
        run: the model folder.
        fold: index of the fold.
    Raises: ConfigError when there is no such fold.
    """
    count = len(run_folds(dataset, config, run))
    if not 0 <= fold < count:
        raise ConfigError(
            f"there is no fold {fold}: this data set gives {count}", hint=f"choose --fold 0..{count - 1} or all"
        )


def fix_folds(
    dataset: Dataset, config: TrainingConfig, run: Path, stored: Mapping[str, StoredCase]
) -> tuple[Fold, ...]:
    """Fix the folds of a run; a run that was already started keeps its folds.

    Args:
        dataset: the labelled cases.
        config: the recipe.
        run: the model folder, into which folds.yaml is written.
        stored: the preprocessed cases by id, whose classes and images the folds depend on.
    Returns: the folds.
    Raises: ConfigError when a case of the folds is missing, DatasetError when the two sides of a fold share a patient
        or an image.
    """
    contents = {name: case.contents() for name, case in stored.items()}
    folds = _written(run)
    if folds is None:
        present = {name: content.classes for name, content in contents.items()}
        folds = make_folds(dataset, config.folds, config.seed, present)
    cases = {case.id: case for case in dataset.cases}
    for fold in folds:
        _require_cases(cases, (*fold.train, *fold.validation), run)
        check_leaks(fold, cases, {name: content.digest for name, content in contents.items()})
    if is_rank_zero():
        content = {fold.index: {"train": list(fold.train), "validation": list(fold.validation)} for fold in folds}
        write_text(_file(run), yaml.safe_dump(content, sort_keys=False))
    return folds


def _file(run: Path) -> Path:
    return run / "folds.yaml"


def _written(run: Path) -> tuple[Fold, ...] | None:
    """The folds in folds.yaml; None before the first fold starts."""
    if not any_started(run) or not _file(run).exists():
        return None
    with reading(_file(run), hint="train into another folder"):
        content = read_document(_file(run))
        return tuple(Fold(index, tuple(s["train"]), tuple(s["validation"])) for index, s in content.items())


def _require_cases(cases: Mapping[str, Case], names: Sequence[str], run: Path) -> None:
    if gone := sorted(set(names) - set(cases)):
        raise ConfigError(
            f"{run} was started with cases that the data set no longer has: {', '.join(gone[:5])}",
            hint="restore them, or train into another folder",
        )
