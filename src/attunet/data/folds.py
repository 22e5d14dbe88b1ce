"""Folds: the division into training and validation cases."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import yaml

from attunet.data.alignment import GeometryPolicy
from attunet.data.dataset import Case, Dataset, DatasetOptions
from attunet.documents import read_document, reading
from attunet.errors import DatasetError, FormatError
from attunet.files import write_text

__all__ = ["Fold", "Split", "assign_groups", "check_leaks", "group_in_name", "make_folds"]


@dataclass(frozen=True)
class Fold:
    """One division of the labelled cases.

    Args:
        index: number of the fold, from 0.
        train: ids of the training cases, sorted.
        validation: ids of the validation cases, sorted; the training cases where there are no others.
    """

    index: int
    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """The cases of a trained fold, as its split.yaml records them.

    Args:
        dataset: folder or CSV file of the data set.
        geometry: how labels on another grid than their image were aligned.
        train: ids of the training cases.
        validation: ids of the validation cases.
        options: how the data set was read.
    """

    dataset: Path
    geometry: GeometryPolicy
    train: tuple[str, ...]
    validation: tuple[str, ...]
    options: DatasetOptions = field(default_factory=DatasetOptions)

    @property
    def held_out(self) -> bool:
        """Whether none of the validation cases was used for training."""
        return not set(self.train) & set(self.validation)

    def write(self, folder: Path) -> None:
        """Write split.yaml into the folder of the fold."""
        content = {
            "dataset": str(self.dataset),
            "geometry": self.geometry,
            **({"options": options} if (options := self.options.to_dict()) else {}),
            "train": list(self.train),
            "validation": list(self.validation),
        }
        write_text(folder / "split.yaml", yaml.safe_dump(content, sort_keys=False))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read split.yaml from the folder of a fold. Raises: FormatError when it is missing or incomplete."""
        file = folder / "split.yaml"
        if not file.is_file():
            raise FormatError(
                f"there is no {file}, which lists the cases of the fold",
                hint="use the run that it was copied from (copies name no case unless made with select --keep-cases), "
                "or train the fold again",
            )
        with reading(file, hint="train the fold again"):
            content = read_document(file)
            train, validation = (tuple(content[side]) for side in ("train", "validation"))
            if not all(isinstance(name, str) for name in (*train, *validation)):
                raise TypeError("train and validation have entries that are no names of cases")
            options = DatasetOptions.from_dict(content.get("options", {}))
            return cls(Path(content["dataset"]), content.get("geometry", "fail"), train, validation, options)


def assign_groups(dataset: Dataset, pattern: str | None) -> Dataset:
    """Read the group (the patient) of each case from its name.

    `pattern` is a regular expression; its first capture group, or else the whole match, is the group. None changes
    nothing.
    Raises: DatasetError naming the cases that it does not match, or when it puts all cases into one group.
    """
    if pattern is None:
        return dataset
    found = {case.id: group_in_name(case.id, pattern) for case in dataset.cases}
    if unmatched := [name for name, group in found.items() if group is None]:
        raise DatasetError(
            f"group_by {pattern!r} does not match {', '.join(unmatched[:3])} ({len(unmatched)} of {len(found)} cases)",
            hint="give a pattern that matches the name of every case, such as '^[^_]+'",
        )
    groups = {name: group for name, group in found.items() if group is not None}
    if len(groups) > 1 and len(only := set(groups.values())) == 1:
        raise DatasetError(
            f"group_by {pattern!r} puts all {len(groups)} cases into one group, {only.pop()!r}: none could be held out",
            hint="give a pattern that differs from patient to patient, such as '^[^_]+' for p07_scan1, p07_scan2",
        )
    return replace(dataset, cases=tuple(replace(case, group=groups[case.id]) for case in dataset.cases))


def group_in_name(name: str, pattern: str) -> str | None:
    """The group (the patient) in a case's name: the first capture group of the pattern, or else its whole match."""
    match = re.search(pattern, name)
    return None if match is None else match[1] if match.groups() else match[0]


def make_folds(
    dataset: Dataset, folds: int, seed: int, present: Mapping[str, Collection[int]] | None = None
) -> tuple[Fold, ...]:
    """Divide the labelled cases into the folds of a cross-validation, the same for the same cases and seed.

    Cases in the same group stay on one side. There are never more folds than groups; a single group validates on
    itself.
    A `split` in the data set takes precedence: its val cases are the validation set of the only fold, its test cases
    are left out; without val cases, the only fold validates on its training cases.

    Args:
        dataset: the data set.
        folds: number of folds.
        seed: seed of the random order of the groups.
        present: label values that occur in each case, by id, to spread every label evenly over the folds; None
            spreads the cases alone.
    Returns: the folds, by index.
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
    parts = _parts(cases, folds, seed, present or {})
    if len(parts) == 1:
        return (_fold(0, cases, []),)
    return tuple(_fold(index, _others(parts, index), part) for index, part in enumerate(parts))


def check_leaks(fold: Fold, cases: Mapping[str, Case], digests: Mapping[str, str]) -> None:
    """Check that no patient and no image of a fold is in both its training and its validation set.

    A fold that validates on its training cases is not checked.

    Args:
        fold: the fold.
        cases: the cases by id.
        digests: a hash of each case's image, by id.
    Raises: DatasetError naming two cases in the same group, or with the same image, on both sides.
    """
    if set(fold.train) == set(fold.validation):
        return
    for relation, keys in (("in the same group", _group_of(cases)), ("the same image", digests)):
        trained = {keys[name]: name for name in fold.train}
        for name in fold.validation:
            if other := trained.get(keys[name]):
                raise DatasetError(
                    f"fold {fold.index} would validate on {name} and train on {other}: they are {relation}",
                    hint="leave one of them out, give both the same group, or put both on one side of the split",
                )


def _group_of(cases: Mapping[str, Case]) -> dict[str, str]:
    return {name: _patient(case) for name, case in cases.items()}


def _patient(case: Case) -> str:
    return f"group {case.group}" if case.group is not None else f"case {case.id}"


def _others(parts: list[list[Case]], index: int) -> list[Case]:
    return [case for other, part in enumerate(parts) if other != index for case in part]


def _parts(cases: list[Case], folds: int, seed: int, present: Mapping[str, Collection[int]]) -> list[list[Case]]:
    """The groups in random order, rare labels first, each to the part that lacks its labels most."""
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        groups.setdefault(_patient(case), []).append(case)
    labels = {name: {label for case in group for label in present.get(case.id, ())} for name, group in groups.items()}
    frequency = Counter(label for values in labels.values() for label in values)
    names = list(groups)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: (-len(groups[name]), sorted(frequency[label] for label in labels[name])))
    parts: list[list[Case]] = [[] for _ in range(min(folds, len(groups)))]
    assigned: list[Counter[int]] = [Counter() for _ in parts]
    for name in names:
        rarest = sorted(labels[name], key=lambda label: (frequency[label], label))
        need = [(len(part), *(assigned[index][label] for label in rarest)) for index, part in enumerate(parts)]
        chosen = need.index(min(need))
        parts[chosen].extend(groups[name])
        assigned[chosen].update(labels[name])
    return parts


def _fold(index: int, train: list[Case], validation: list[Case]) -> Fold:
    ids = sorted(case.id for case in train)
    held_out = sorted(case.id for case in validation) or ids
    return Fold(index, tuple(ids), tuple(held_out))
