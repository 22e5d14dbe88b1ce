"""Which prediction belongs to which reference, and what the labels are called."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from attunet.data import formats
from attunet.errors import DatasetError

__all__ = ["Pair", "label_names", "match"]


@dataclass(frozen=True)
class Pair:
    """A reference and its prediction; None when there is no prediction."""

    case: str
    reference: Path
    prediction: Path | None


def match(reference: Path, prediction: Path) -> tuple[list[Pair], list[str]]:
    """Pair two files, or the files of two folders by their name without suffix.

    Returns: one pair per reference, in order of name, and the names of predictions without a reference.
    Raises: DatasetError when a path is missing, the two are not of one kind, no reference is found, no
        prediction belongs to any reference, or two files of a folder are the same case.
    """
    for path in (reference, prediction):
        if not path.exists():
            raise DatasetError(f"{path} does not exist", hint="check the path")
    if reference.is_dir() != prediction.is_dir():
        raise DatasetError(
            f"got a file and a folder ({reference}, {prediction}), expected two files or two folders",
            hint="pass the reference file and the prediction file, or the two folders that hold them",
        )
    if reference.is_file():
        return [Pair(formats.stem_of(reference), reference, prediction)], []
    references, predictions = _cases(reference), _cases(prediction)
    if not references:
        raise DatasetError(f"no label file was found in {reference}", hint="pass the folder that holds the label files")
    if not references.keys() & predictions.keys():
        raise DatasetError(
            f"none of the {len(predictions)} files in {prediction} is named like one of the "
            f"{len(references)} in {reference}",
            hint=f"a prediction is named as its reference, such as {next(iter(references.values())).name}",
        )
    pairs = [Pair(case, path, predictions.get(case)) for case, path in references.items()]
    return pairs, [case for case in predictions if case not in references]


def label_names(reference: Path) -> dict[str, int]:
    """Label names and values by the `dataset.json` in or beside the reference folder; empty without one.

    MSD's {"1": "liver"} and nnU-Net's {"liver": 1} are both read; regions of several values are passed over.
    """
    folder = reference if reference.is_dir() else reference.parent
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if path.is_file():
            return _read_names(path)
    return {}


def _read_names(path: Path) -> dict[str, int]:
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        spelled = [(value, key) if isinstance(value, str) else (key, value) for key, value in labels.items()]
        return {name: int(value) for name, value in spelled if not isinstance(value, list)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} does not name labels: {error!r}", hint='expected "labels": {"background": 0, "liver": 1}'
        ) from error


def _cases(folder: Path) -> dict[str, Path]:
    """Case name to file, for every file of a format that can be read."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file() or formats.suffix_of(path) is None:
            continue
        case = formats.stem_of(path)
        if case in found:
            raise DatasetError(
                f"{found[case].name} and {path.name} in {folder} are both case {case}",
                hint="keep one of the two",
            )
        found[case] = path
    return found
