"""The model folder of one run: plan, weights and graph of each fold, and the results of its cross-validation.

RUN/
  plan.json  training.yaml  postprocessing.json  engine.json  manifest.json
  fold_0/    weights.safetensors  graph.xml  graph.bin  metrics.json  split.yaml  log.csv  curves.png  attention_frames/
             localizer_0/ ...  localizer.json

An exported model is such a folder, too; its folds contain only the files that the engine in engine.json needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from attunet.bundle.execution import (
    AIR,
    ENGINE_FILES,
    EXECUTION,
    INT8_FILES,
    Execution,
    load_execution,
    write_execution,
)
from attunet.bundle.fold_files import FoldFiles
from attunet.bundle.manifest import (
    MANIFEST,
    alone,
    check_sums,
    read_checked,
    read_sealed,
    read_sums,
    resealed,
    seal,
    withdraw,
    write_unsealed,
)
from attunet.bundle.skipping import SKIPPING
from attunet.config import Plan, Postprocessing, load_settings, parse_settings
from attunet.errors import BundleError

__all__ = [
    "ENSEMBLE",
    "POSTPROCESSING",
    "Bundle",
    "discard_postprocessing",
    "fold_folder",
    "has_postprocessing",
    "load_bundle",
    "load_postprocessing",
    "save_execution",
    "save_manifest",
    "save_plan",
    "save_postprocessing",
    "withdraw_fold",
    "write_postprocessing",
]

POSTPROCESSING = "postprocessing.json"
_EARLIER_POSTPROCESSING = "refinement.json"
"""Earlier names of these files, read when the new one is missing."""
ENSEMBLE = "ensemble.json"
_IN_FOLD = re.compile(r"fold_\w+/")
_NEEDED = ("weights.safetensors", "graph.xml", "graph.bin")
_SEALED = (*dict.fromkeys([*_NEEDED, *chain(*ENGINE_FILES.values())]), "metrics.json", AIR, SKIPPING, *INT8_FILES)


@dataclass(frozen=True)
class Bundle:
    """A run's folder whose files match its manifest.

    Args:
        root: the folder.
        plan: what was trained.
        folds: the finished folds that were selected.
        postprocessing: learnt by a cross-validation; the defaults when there was none.
        execution: the engine of the folds.
    """

    root: Path
    plan: Plan
    folds: tuple[FoldFiles, ...]
    postprocessing: Postprocessing = field(default_factory=Postprocessing)
    execution: Execution = field(default_factory=Execution)

    def selected(self, folds: Sequence[int] | None) -> tuple[FoldFiles, ...]:
        """The folds of these indices; all for None, or if one is not there: an export may hold only some of them."""
        names = {fold_folder(self.root, index).name for index in folds or ()}
        found = tuple(fold for fold in self.folds if fold.name in names)
        return found if found and len(found) == len(names) else self.folds


def fold_folder(root: Path, fold: int | str) -> Path:
    """The folder of a fold."""
    return root / f"fold_{fold}"


def save_plan(plan: Plan, root: Path) -> None:
    """Write plan.json, indented."""
    write_unsealed(plan, root / "plan.json")


def save_postprocessing(postprocessing: Postprocessing, root: Path) -> None:
    """Write postprocessing.json into a run's folder and its manifest; every later prediction applies it."""
    if not (root / MANIFEST).is_file():
        write_postprocessing(postprocessing, root)
        save_manifest(root)
        return
    with resealed(root, gone=(_EARLIER_POSTPROCESSING,)) as folder:
        write_unsealed(postprocessing, folder / POSTPROCESSING)


def save_execution(execution: Execution, root: Path) -> None:
    """Write engine.json into a model folder and its manifest; every later prediction uses it.

    Files that its engine needs and the manifest does not name are added to it.
    """
    if not (root / MANIFEST).is_file():
        write_execution(execution, root)
        save_manifest(root)
        return
    with resealed(root, unlisted=_sealable(root, _needed(execution))) as folder:
        write_execution(execution, folder)


def write_postprocessing(postprocessing: Postprocessing, root: Path) -> None:
    """Write postprocessing.json without updating the manifest."""
    discard_postprocessing(root)
    write_unsealed(postprocessing, root / POSTPROCESSING)


def has_postprocessing(root: Path) -> bool:
    """Whether a run has postprocessing.json, under its present or earlier name."""
    return any((root / name).is_file() for name in (POSTPROCESSING, _EARLIER_POSTPROCESSING))


def discard_postprocessing(root: Path) -> None:
    """Remove postprocessing.json, also under its earlier name, without updating the manifest."""
    for name in (POSTPROCESSING, _EARLIER_POSTPROCESSING):
        (root / name).unlink(missing_ok=True)


def save_manifest(root: Path, *, changed: str | None = None) -> None:
    """Seal the finished folds: a sha256 sum of every file that a prediction depends on.

    With the name of a `changed` fold, the sums of all other files that the manifest already names are kept.
    """
    with alone(root):
        needed = _needed(load_settings(Execution, root / EXECUTION) if (root / EXECUTION).is_file() else None)
        kept = read_sums(root) if changed and (root / MANIFEST).is_file() else {}
        kept = {name: total for name, total in kept.items() if Path(name).parts[0] != changed}
        files = ("plan.json", POSTPROCESSING, _EARLIER_POSTPROCESSING, EXECUTION)
        seal(root, [*(root / name for name in files), *_sealable(root, needed)], kept=kept)


def withdraw_fold(root: Path, fold: str) -> None:
    """Remove a fold that is about to change from the manifest and delete what depends on its weights.

    Until it is sealed again, the model consists of its other folds.
    """
    files = FoldFiles(root / fold)
    dependent = [root / name for name in (POSTPROCESSING, _EARLIER_POSTPROCESSING, EXECUTION)]
    dependent += [files.onnx, files.program, files.metrics]
    dependent += [files.folder / name for name in (AIR, SKIPPING, *INT8_FILES)]
    for localizer in files.localizers:
        dependent += [localizer.onnx, localizer.program]
    folders = [files.folder, *(localizer.folder for localizer in files.localizers)]
    changing = [*(folder / name for folder in folders for name in _SEALED), *dependent]
    with alone(root):
        withdraw(root, [file.relative_to(root).as_posix() for file in changing])
        for file in dependent:
            file.unlink(missing_ok=True)


def load_bundle(root: Path, folds: Sequence[int] | None = None, *, manifest: str | None = None) -> Bundle:
    """Open a run's folder and check it against its manifest.

    Args:
        root: the folder.
        folds: which folds; None for all finished ones.
        manifest: sha256 sum of its manifest, where an ensemble lists it.
    Returns: the run.
    Raises: BundleError when it is no model, an ensemble, unfinished, altered, or lacks a requested fold.
    """
    if (root / ENSEMBLE).is_file():
        raise BundleError(
            f"{root} is an ensemble, expected the folder of one run", hint="pass one of the folders in its members/"
        )
    sums = read_sums(root, manifest)
    names = sorted({name.split("/")[0] for name in sums if _IN_FOLD.match(name)}, key=_fold_order)
    execution = load_execution(root, sums)
    check_sums(root, sums, ["plan.json", *(f"{fold}/{name}" for fold in names for name in _needed(execution))])
    selected = names if folds is None else [f"fold_{index}" for index in folds]
    absent = [name for name in selected if name not in names]
    if absent or not selected:
        raise BundleError(
            f"{root} has no finished {', '.join(absent) or 'fold'}; finished folds: {', '.join(names) or 'none'}",
            hint="choose one of these with --fold, or train the missing one",
        )
    plan = parse_settings(Plan, read_checked(root, "plan.json", sums), root / "plan.json")
    _check_localizers(plan, root, selected, execution, sums)
    used = execution or Execution()
    opened = tuple(FoldFiles(root / name, used, sums) for name in selected)
    return Bundle(root, plan, opened, load_postprocessing(root, sums), used)


def load_postprocessing(root: Path, sums: dict[str, str]) -> Postprocessing:
    """Read postprocessing.json; the defaults when it does not exist. Raises: BundleError when the manifest lacks it."""
    remedy = "delete it, or recreate it with `attunet evaluate --cross-validation`"
    candidates = (
        read_sealed(Postprocessing, root, name, sums, remedy=remedy)
        for name in (POSTPROCESSING, _EARLIER_POSTPROCESSING)
    )
    return next((postprocessing for postprocessing in candidates if postprocessing is not None), Postprocessing())


def _needed(execution: Execution | None) -> tuple[str, ...]:
    """The files that a fold requires: those of its engine, or of a trained fold when no engine is named."""
    return _NEEDED if execution is None else ENGINE_FILES[execution.engine]


def _check_localizers(
    plan: Plan, root: Path, folds: Iterable[str], execution: Execution | None, sums: Mapping[str, str]
) -> None:
    """Raises: BundleError unless the manifest lists every localizer that the plan names."""
    count = 0 if plan.localizer is None else plan.localizer.members
    for fold in folds:
        for folder in (f"{fold}/localizer_{index}" for index in range(count)):
            if absent := [name for name in _needed(execution) if f"{folder}/{name}" not in sums]:
                raise BundleError(
                    f"the manifest of {root} does not list {folder}/{absent[0]}, which its plan needs",
                    hint="finish the training with `attunet train … --resume`, or copy the complete model folder again",
                )


def _sealable(root: Path, needed: Iterable[str]) -> list[Path]:
    """The files of the finished folds that a manifest names."""
    required = tuple(needed)
    folds = [folder for folder in sorted(root.glob("fold_*")) if _finished(folder, required)]
    localizers = [localizer.folder for folder in folds for localizer in FoldFiles(folder).localizers]
    return [folder / name for folder in (*folds, *localizers) for name in _SEALED]


def _finished(folder: Path, needed: Iterable[str]) -> bool:
    return all((folder / name).is_file() for name in needed)


def _fold_order(name: str) -> tuple[int, str]:
    """By number, however many digits it has, and folds without a number first."""
    digits = re.sub(r"\D", "", name).lstrip("0")
    return len(digits), digits or name
