"""The folds of a run: decided once, written to folds.yaml, and kept for every fold that is trained later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from attunet.config import TrainingConfig
from attunet.data.cases import Case, Dataset
from attunet.data.folds import Fold, check_leaks, make_folds
from attunet.errors import ConfigError, FormatError
from attunet.files import write_text
from attunet.training.paths import any_started
from attunet.training.ranks import leads
from attunet.training.store import StoredCase

__all__ = ["require_fold", "run_folds", "settle_folds"]


def run_folds(dataset: Dataset, config: TrainingConfig, run: Path) -> tuple[Fold, ...]:
    """The folds of a run that was begun, or as many as it will have, known before a case is read."""
    return _written(run) or make_folds(dataset, config.folds, config.seed)


def require_fold(dataset: Dataset, config: TrainingConfig, run: Path, fold: int) -> None:
    """Raises: ConfigError when the run has no such fold."""
    count = len(run_folds(dataset, config, run))
    if not 0 <= fold < count:
        raise ConfigError(
            f"there is no fold {fold}: this data set gives {count}", hint=f"choose --fold 0..{count - 1} or all"
        )


def settle_folds(
    dataset: Dataset, config: TrainingConfig, run: Path, stored: Mapping[str, StoredCase]
) -> tuple[Fold, ...]:
    """The folds of a run; those it was begun with, whatever the data set and the recipe say now.

    Raises: ConfigError when a case of the folds is gone, DatasetError when one side of a fold knows the other.
    """
    contents = {name: case.contents() for name, case in stored.items()}
    folds = _written(run)
    if folds is None:
        present = {name: content.classes for name, content in contents.items()}
        folds = make_folds(dataset, config.folds, config.seed, present)
    cases = {case.id: case for case in dataset.cases}
    for fold in folds:
        _require(cases, (*fold.train, *fold.validation), run)
        check_leaks(fold, cases, {name: content.digest for name, content in contents.items()})
    if leads():
        content = {fold.index: {"train": list(fold.train), "validation": list(fold.validation)} for fold in folds}
        write_text(_file(run), yaml.safe_dump(content, sort_keys=False))
    return folds


def _file(run: Path) -> Path:
    return run / "folds.yaml"


def _written(run: Path) -> tuple[Fold, ...] | None:
    """Folds are settled once a fold has been begun; None before."""
    if not any_started(run) or not _file(run).exists():
        return None
    try:
        content = yaml.safe_load(_file(run).read_text(encoding="utf-8"))
        return tuple(Fold(index, tuple(s["train"]), tuple(s["validation"])) for index, s in content.items())
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise FormatError(f"{_file(run)} cannot be understood", hint="train into another folder") from error


def _require(cases: Mapping[str, Case], names: Sequence[str], run: Path) -> None:
    if gone := sorted(set(names) - set(cases)):
        raise ConfigError(
            f"{run} was begun with cases that the data set has no longer: {', '.join(gone[:5])}",
            hint="put them back, or train into another folder",
        )
