"""Copies of a run for others: the model, and nothing of the patients it was trained on.

A run holds more than a model: names of cases, the path of the data set, scores case by case, small scans
(attention_frames/, report.html), held-out masks (cross_validation/). A copy holds what predicts, with the scores of
numbered cases.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from types import MappingProxyType
from typing import Any

import yaml

from attunet.bundle.manifest import path_inside, read_checked, read_sums, seal
from attunet.bundle.run import load_bundle
from attunet.documents import parse_document, reading
from attunet.errors import BundleError

__all__ = ["copy_run"]

_ORIGIN = "split.yaml"
"""The data set and the names of the cases of a fold, which explain, compare and a cross-validation need."""
_RECIPE = "training.yaml"


def copy_run(source: Path, target: Path, *, keep_cases: bool = False) -> None:
    """Copy the files of a finished run that prediction needs, and its recipe, without checkpoints, logs and reports.

    Args:
        source: the run.
        target: the folder to write.
        keep_cases: whether to keep the names of the cases and the path of the data set, too, so that the copy can be
            explained, compared and cross-validated where the data set is.
    Raises: BundleError when the run is unfinished or altered.
    """
    bundle, sums = load_bundle(source), read_sums(source)
    for name in sums:
        content = read_checked(source, name, sums)
        if not keep_cases and (anonymous := _ANONYMOUS.get(Path(name).name)) is not None:
            content = anonymous(content, source / name)
        _write(target / name, content)
    if (recipe := path_inside(source, _RECIPE)).is_file():
        content = recipe.read_bytes()
        _write(target / _RECIPE, content if keep_cases else _anonymous_recipe(content, recipe))
    for fold in bundle.folds if keep_cases else ():
        if (origin := path_inside(source, f"{fold.name}/{_ORIGIN}")).is_file():
            _write(target / fold.name / _ORIGIN, origin.read_bytes())
    seal(target, [target / name for name in sums])


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _anonymous_scores(content: bytes, path: Path) -> bytes:
    """The scores of a fold with numbers in place of the names and files of its cases."""
    with reading(path, BundleError, "delete it, or evaluate the fold again"):
        summary: dict[str, Any] = parse_document(content)
        numbers = {entry["case"]: f"case_{number}" for number, entry in enumerate(summary["metric_per_case"], 1)}
        summary["metric_per_case"] = [
            {**entry, "case": numbers[entry["case"]], "reference_file": None, "prediction_file": None}
            for entry in summary["metric_per_case"]
        ]
        for key in ("missing_predictions", "extra_predictions"):
            summary[key] = [numbers.get(name, "case") for name in summary.get(key, [])]
    return (json.dumps(summary, indent=2) + "\n").encode()


def _anonymous_recipe(content: bytes, path: Path) -> bytes:
    """The training settings, in which only the file name of a path is kept."""
    with reading(path, BundleError, "correct it, or delete it"):
        recipe = dict(parse_document(content, json_text=False) or {})
    names = {key: PureWindowsPath(value).name for key, value in recipe.items() if isinstance(value, str)}
    paths = {key: name for key, name in names.items() if key in _PATHS}
    return yaml.safe_dump(recipe | paths, sort_keys=False).encode()


_PATHS = ("init_weights",)
"""The settings of a recipe that are paths."""

_ANONYMOUS: Mapping[str, Callable[[bytes, Path], bytes]] = MappingProxyType({"metrics.json": _anonymous_scores})
"""The sealed files that name cases, and what a copy holds in their place."""
