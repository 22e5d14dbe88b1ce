"""A trained model on disk: plan, weights and graph per fold, and a manifest of sha256 sums. No pickle.

RUN/
  plan.json  training.yaml  manifest.json
  fold_0/    weights.safetensors  graph.xml  graph.bin  metrics.json  log.csv  curves.png
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attunet.config import Plan, load_settings
from attunet.errors import BundleError
from attunet.files import write_text

__all__ = ["Bundle", "FoldFiles", "fold_folder", "load_bundle", "save_manifest", "save_plan"]

_MANIFEST = "manifest.json"
_FORMAT = 1
_NEEDED = ("weights.safetensors", "graph.xml", "graph.bin")
_SEALED = (*_NEEDED, "metrics.json")


@dataclass(frozen=True)
class FoldFiles:
    """What a prediction needs of the trained fold in `folder`."""

    folder: Path

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
        """The same network for OpenVINO; graph.bin lies beside it."""
        return self.folder / "graph.xml"

    @property
    def metrics(self) -> Path:
        """Scores of the finished fold on its validation cases; the last file to appear."""
        return self.folder / "metrics.json"


@dataclass(frozen=True)
class Bundle:
    """A model folder whose files were found whole."""

    root: Path
    plan: Plan
    folds: tuple[FoldFiles, ...]


def fold_folder(root: Path, fold: int | str) -> Path:
    """Where a fold keeps its files."""
    return root / f"fold_{fold}"


def save_plan(plan: Plan, root: Path) -> None:
    """Write plan.json, readable."""
    write_text(root / "plan.json", json.dumps(plan.model_dump(mode="json"), indent=2) + "\n")


def save_manifest(root: Path) -> None:
    """Seal the finished folds: a sha256 sum of every file that a prediction depends on."""
    folds = [folder for folder in sorted(root.glob("fold_*")) if _finished(folder)]
    files = [root / "plan.json", *(folder / name for folder in folds for name in _SEALED)]
    sums = {file.relative_to(root).as_posix(): _sha256(file) for file in files if file.is_file()}
    write_text(root / _MANIFEST, json.dumps({"format": _FORMAT, "sha256": sums}, indent=2) + "\n")


def load_bundle(root: Path, folds: Sequence[int] | None = None) -> Bundle:
    """Open a model folder and check it against its manifest.

    Args: the folder; which folds (all finished ones by default).
    Raises: BundleError when it is no model, unfinished, altered, or lacks a fold that was asked for.
    """
    sums = _read_manifest(root)
    _verify(root, sums)
    names = sorted({Path(name).parts[0] for name in sums if name.startswith("fold_")}, key=_fold_order)
    wanted = names if folds is None else [f"fold_{index}" for index in folds]
    absent = [name for name in wanted if name not in names]
    if absent or not wanted:
        raise BundleError(
            f"{root} has no finished {', '.join(absent) or 'fold'}; finished are: {', '.join(names) or 'none'}",
            hint="choose one of these with --fold, or train the missing one",
        )
    plan = load_settings(Plan, root / "plan.json")
    return Bundle(root, plan, tuple(FoldFiles(root / name) for name in wanted))


def _read_manifest(root: Path) -> dict[str, str]:
    path = root / _MANIFEST
    if not root.is_dir():
        raise BundleError(f"no model folder at {root}", hint="give the RUN folder that `attunet train -o RUN` made")
    if not path.is_file():
        started = (root / "plan.json").is_file()
        raise BundleError(
            f"{root} is {'an unfinished training' if started else 'not a model folder'} (no {_MANIFEST})",
            hint="finish it with `attunet train … --resume`"
            if started
            else "give the folder that `attunet train -o` made",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sums = content["sha256"]
        if content["format"] != _FORMAT or not isinstance(sums, dict):
            raise KeyError("format")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} cannot be understood: {error}", hint="copy the model folder again") from error
    return {str(name): str(value) for name, value in sums.items()}


def _verify(root: Path, sums: dict[str, str]) -> None:
    folds = {Path(name).parts[0] for name in sums if name.startswith("fold_")}
    needed = {"plan.json", *(f"{fold}/{name}" for fold in folds for name in _NEEDED)}
    if unsealed := needed - sums.keys():
        raise BundleError(
            f"the manifest of {root} does not name {', '.join(sorted(unsealed))}",
            hint="copy the model folder again, whole",
        )
    for name, expected in sums.items():
        file = root / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise BundleError(f"the manifest of {root} names a file outside it: {name}", hint="do not use this model")
        if not file.is_file():
            raise BundleError(f"{file} is missing", hint="copy the model folder again, whole")
        if _sha256(file) != expected:
            raise BundleError(
                f"{file} differs from what was trained (its sha256 is not the manifest's)",
                hint="copy the model folder again from its origin, or train again",
            )


def _finished(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _NEEDED)


def _fold_order(name: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", name)
    return int(digits) if digits else -1, name


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
