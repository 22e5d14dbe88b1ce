"""Which prediction belongs to which reference, and what the labels are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attunet.data import formats
from attunet.data.layouts.description import DeclaredLabels, load_description, read_declared_labels
from attunet.data.layouts.image_files import by_stem, image_files
from attunet.errors import DatasetError

__all__ = ["Pair", "declared_labels", "match"]


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
    references, predictions = (by_stem(image_files(folder)) for folder in (reference, prediction))
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


def declared_labels(reference: Path) -> DeclaredLabels:
    """Labels or regions by the `dataset.json` in or beside the reference folder; nothing declared without one.

    MSD's {"1": "liver"} and nnU-Net's {"liver": 1, "all": [1, 2]} are both read.
    Raises: DatasetError when it cannot be used.
    """
    folder = reference if reference.is_dir() else reference.parent
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if path.is_file():
            return read_declared_labels(load_description(path), path)
    return DeclaredLabels({}, {}, None)
