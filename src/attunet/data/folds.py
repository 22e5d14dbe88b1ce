"""Which cases train and which validate."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import yaml

from attunet.data.alignment import GeometryPolicy
from attunet.data.dataset import Case, Dataset
from attunet.errors import DatasetError, FormatError
from attunet.files import write_text

__all__ = ["Fold", "Split", "assign_groups", "check_leaks", "make_folds"]


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
    def held_out(self) -> bool:
        """Whether no validation case was trained on."""
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


def assign_groups(dataset: Dataset, pattern: str | None) -> Dataset:
    """The data set with each case's group (its patient) read from its name; None changes nothing.

    Args: a regular expression; its first parenthesis, or all that it matches, is the group.
    Raises: DatasetError naming the cases that it does not match, or when all cases are of one group.
    """
    if pattern is None:
        return dataset
    found = {case.id: re.search(pattern, case.id) for case in dataset.cases}
    if strange := [name for name, match in found.items() if match is None]:
        raise DatasetError(
            f"group_by {pattern!r} matches nothing in {', '.join(strange[:3])} ({len(strange)} of {len(found)} cases)",
            hint="give a pattern that every case's name holds, such as '^[^_]+'",
        )
    groups = {name: (match[1] if match.groups() else match[0]) for name, match in found.items() if match}
    if len(groups) > 1 and len(only := set(groups.values())) == 1:
        raise DatasetError(
            f"group_by {pattern!r} puts all {len(groups)} cases into one group, {only.pop()!r}: none could be held out",
            hint="give a pattern that differs from patient to patient, such as '^[^_]+' for p07_scan1, p07_scan2",
        )
    return replace(dataset, cases=tuple(replace(case, group=groups[case.id]) for case in dataset.cases))


def make_folds(
    dataset: Dataset, folds: int, seed: int, present: Mapping[str, Collection[int]] | None = None
) -> tuple[Fold, ...]:
    """Folds of a cross-validation over the labelled cases; the same for the same cases and seed.

    Cases of one group stay on one side. There are never more folds than groups; a single group validates on
    itself. A `split` given by the user wins: its val rows are the validation set of the only fold, its test
    rows are left out; with train rows and no val row, the only fold validates on its training cases.
    Args: the labels present in each case, by id, to spread every label evenly over the folds.
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
    """Make sure that nothing a fold trains on is in its validation set, unless both are one and the same set.

    Args: the cases and a hash of each one's image, by id.
    Raises: DatasetError naming two cases of one patient, or with one image, on either side.
    """
    if set(fold.train) == set(fold.validation):
        return
    for what, sign in (("of one group", _group_of(cases)), ("the same image", digests)):
        trained = {sign[name]: name for name in fold.train}
        for name in fold.validation:
            if other := trained.get(sign[name]):
                raise DatasetError(
                    f"fold {fold.index} would validate on {name} and train on {other}: they are {what}",
                    hint="leave one of them out, give both the same group, or put both on one side of the split",
                )


def _group_of(cases: Mapping[str, Case]) -> dict[str, str]:
    return {name: _patient(case) for name, case in cases.items()}


def _patient(case: Case) -> str:
    return f"group {case.group}" if case.group is not None else f"case {case.id}"


def _others(parts: list[list[Case]], index: int) -> list[Case]:
    return [case for other, part in enumerate(parts) if other != index for case in part]


def _parts(cases: list[Case], folds: int, seed: int, present: Mapping[str, Collection[int]]) -> list[list[Case]]:
    """The groups in random order, those with rare labels first, each dealt to the part that needs it most."""
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        groups.setdefault(_patient(case), []).append(case)
    labels = {name: {label for case in group for label in present.get(case.id, ())} for name, group in groups.items()}
    frequency = Counter(label for found in labels.values() for label in found)
    names = list(groups)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: (-len(groups[name]), sorted(frequency[label] for label in labels[name])))
    parts: list[list[Case]] = [[] for _ in range(min(folds, len(groups)))]
    dealt: list[Counter[int]] = [Counter() for _ in parts]
    for name in names:
        rarest = sorted(labels[name], key=lambda label: (frequency[label], label))
        need = [(len(part), *(dealt[index][label] for label in rarest)) for index, part in enumerate(parts)]
        chosen = need.index(min(need))
        parts[chosen].extend(groups[name])
        dealt[chosen].update(labels[name])
    return parts


def _fold(index: int, train: list[Case], validation: list[Case]) -> Fold:
    ids = sorted(case.id for case in train)
    held_out = sorted(case.id for case in validation) or ids
    return Fold(index, tuple(ids), tuple(held_out))
