"""Which cases train and which validate."""

from __future__ import annotations

import random
from dataclasses import dataclass

from attunet.data.dataset import Case, Dataset
from attunet.errors import DatasetError

__all__ = ["Fold", "make_folds"]


@dataclass(frozen=True)
class Fold:
    """One division of the labelled cases, by id; both sides sorted."""

    index: int
    train: tuple[str, ...]
    validation: tuple[str, ...]


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
