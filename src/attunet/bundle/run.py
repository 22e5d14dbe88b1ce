"""The model folder of one run: plan, weights and graph of each fold, and the results of its cross-validation.

RUN/
  plan.json  training.yaml  postprocessing.json  engine.json  manifest.json
  fold_0/    weights.safetensors  graph.xml  graph.bin  metrics.json  split.yaml  log.csv  curves.png  attention_frames/

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
    Air,
    Execution,
    load_air,
    load_execution,
    write_execution,
)
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
from attunet.config import Plan, Postprocessing, load_settings, parse_settings
from attunet.errors import BundleError

__all__ = [
    "ENSEMBLE",
    "POSTPROCESSING",
    "Bundle",
    "FoldFiles",
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
_SEALED = (*dict.fromkeys([*_NEEDED, *chain(*ENGINE_FILES.values())]), "metrics.json", AIR, *INT8_FILES)


@dataclass(frozen=True)
class FoldFiles:
    """The files of a trained fold in `folder`, and its engine (`execution`).

    Args:
        folder: its folder.
        execution: its engine.
        sums: the manifest of its run; None for files that this program has written itself.
    """

    folder: Path
    execution: Execution = field(default_factory=Execution)
    sums: Mapping[str, str] | None = field(default=None, repr=False, compare=False)

    def has(self, file: Path) -> bool:
        """Whether a file of the fold is there and belongs to the model."""
        return file.is_file() and (self.sums is None or self._name(file) in self.sums)

    def read(self, file: Path) -> bytes:
        """Read a file of the fold. Raises: BundleError when it is not the one that the manifest lists."""
        if self.sums is None:
            return file.read_bytes()
        return read_checked(self.folder.parent, self._name(file), self.sums)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.folder.parent).as_posix()

    @property
    def air(self) -> Air | None:
        """Which windows of this fold contain only air. Raises: BundleError when the manifest lacks air.json."""
        return load_air(self.folder, self.sums)

    @property
    def name(self) -> str:
        """fold_0, fold_1, ..."""
        return self.folder.name

    @property
    def weights(self) -> Path:
        """The weights of the finished fold."""
        return self.folder / "weights.safetensors"

    @property
    def graph(self) -> Path:
        """The same network for OpenVINO; graph.bin is next to it."""
        return self.folder / "graph.xml"

    @property
    def onnx(self) -> Path:
        """The same network for ONNX Runtime, if it was exported."""
        return self.folder / "model.onnx"

    @property
    def program(self) -> Path:
        """The same network as a program of torch.export, in an exported folder; only its weights are read."""
        return self.folder / "model.pt2"

    @property
    def metrics(self) -> Path:
        """Scores of the finished fold on its validation cases; the last file to appear."""
        return self.folder / "metrics.json"


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
    dependent += [files.onnx, files.program, files.metrics, *(files.folder / name for name in (AIR, *INT8_FILES))]
    changing = [*(files.folder / name for name in _SEALED), *dependent]
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


def _sealable(root: Path, needed: Iterable[str]) -> list[Path]:
    """The files of the finished folds that a manifest names."""
    required = tuple(needed)
    folds = [folder for folder in sorted(root.glob("fold_*")) if _finished(folder, required)]
    return [folder / name for folder in folds for name in _SEALED]


def _finished(folder: Path, needed: Iterable[str]) -> bool:
    return all((folder / name).is_file() for name in needed)


def _fold_order(name: str) -> tuple[int, str]:
    """By number, however many digits it has, and folds without a number first."""
    digits = re.sub(r"\D", "", name).lstrip("0")
    return len(digits), digits or name
