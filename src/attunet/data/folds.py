"""Which cases train and which validate."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

from attunet.data.alignment import GeometryPolicy
from attunet.data.dataset import Case, Dataset
from attunet.errors import DatasetError, FormatError
from attunet.files import write_text

__all__ = ["Fold", "Split", "make_folds"]


@dataclass(frozen=True)
class Fold:
    """One division of the labelled cases, by id; both sides sorted."""

    index: int
    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """What a trained fold saw: the data set's folder or CSV, what to do with label grids, and the cases by id."""

    dataset: Path
    geometry: GeometryPolicy
    train: tuple[str, ...]
    validation: tuple[str, ...]

    @property
    def unseen(self) -> bool:
        """Whether the validation cases were kept out of the training."""
        return not set(self.train) & set(self.validation)

    def write(self, folder: Path) -> None:
        """Write split.yaml into a fold's folder."""
        content = {
            "dataset": str(self.dataset),
            "geometry": self.geometry,
            "train": list(self.train),
            "validation": list(self.validation),
        }
        write_text(folder / "split.yaml", yaml.safe_dump(content, sort_keys=False))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The split of the fold in a folder. Raises: FormatError when there is none."""
        file = folder / "split.yaml"
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            train, validation = tuple(content["train"]), tuple(content["validation"])
            return cls(Path(content["dataset"]), content.get("geometry", "fail"), train, validation)
        except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
            raise FormatError(f"{file} does not tell which cases the fold saw", hint="train the fold again") from error


def make_folds(dataset: Dataset, folds: int, seed: int) -> tuple[Fold, ...]:
    """Folds of a cross-validation over the labelled cases; the same for the same cases and seed.

    Cases of one group stay on one side. There are never more folds than groups; a single group validates on
    itself. A `split` given by the user wins: its val rows are the validation set of the only fold, its test
    rows are left out; with train rows and no val row, the only fold validates on its training cases.
    Raises: DatasetError when no labelled case is left to train on.
    """
    cases = [case for case in dataset.labelled if case.split != "test"]
    decided = any(case.split for case in cases)
    train = [case for case in cases if case.split != "val"]
    if not train:
        raise DatasetError(
            f"no labelled training case among the {len(dataset.cases)} cases of {dataset.root}",
            hint="add labels, or mark some rows with split train",
        )
    if decided:
        return (_fold(0, train, [case for case in cases if case.split == "val"]),)
    parts = _parts(cases, folds, seed)
    if len(parts) == 1:
        return (_fold(0, cases, []),)
    return tuple(_fold(index, _others(parts, index), part) for index, part in enumerate(parts))


def _others(parts: list[list[Case]], index: int) -> list[Case]:
    return [case for other, part in enumerate(parts) if other != index for case in part]


def _parts(cases: list[Case], folds: int, seed: int) -> list[list[Case]]:
    """The groups in random order, each dealt to the part that has the fewest cases so far."""
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        groups.setdefault(f"group {case.group}" if case.group is not None else f"case {case.id}", []).append(case)
    names = list(groups)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: -len(groups[name]))
    parts: list[list[Case]] = [[] for _ in range(min(folds, len(groups)))]
    for name in names:
        min(parts, key=len).extend(groups[name])
    return parts


def _fold(index: int, train: list[Case], validation: list[Case]) -> Fold:
    ids = sorted(case.id for case in train)
    held_out = sorted(case.id for case in validation) or ids
    return Fold(index, tuple(ids), tuple(held_out))
