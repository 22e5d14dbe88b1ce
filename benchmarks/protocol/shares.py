"""Shares of a data set: the same training cases and the same unseen cases for every program, in folders of their own.

The unseen cases are there as images only: no program can read their labels, or plan by their intensities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet.peer import link

from attunet.data.cases import read_dataset
from attunet.data.dataset import Case, Dataset
from attunet.data.folds import make_folds
from attunet.data.formats import stem_of
from attunet.data.layouts.table import write_table
from attunet.files import write_text

__all__ = ["Share", "make_shares"]

SHIFTED = 0.7
"""Share of the cases, by name, that the split `shifted` trains on: 140 of the 200 hippocampi."""
SEED = 0


@dataclass(frozen=True)
class Share:
    """Training and unseen cases, written below `folder`.

    Args:
        name: such as shifted, or fold3.
        folder: its folder.
        train: ids of the training cases.
        unseen: ids of the unseen cases.
    """

    name: str
    folder: Path
    train: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def training(self) -> Path:
        """Images and labels of the training cases, in nnU-Net's raw layout."""
        return self.folder / "training"

    @property
    def table(self) -> Path:
        """The same as a CSV file with the groups, from which attunet chooses its own validation cases."""
        return self.folder / "cases.csv"

    @property
    def whole_table(self) -> Path:
        """The same, with every case declared as a training case: nothing is left for validation."""
        return self.folder / "cases_all_train.csv"

    @property
    def images(self) -> Path:
        """Images of the unseen cases."""
        return self.folder / "unseen" / "images"

    @property
    def references(self) -> Path:
        """Labels of the unseen cases, for the scorer alone."""
        return self.folder / "unseen" / "labels"


def make_shares(dataset: Dataset, split: str, work: Path, *, few: int | None = None) -> tuple[Share, ...]:
    """Divide a data set and write its shares.

    Args:
        dataset: from `canonical`.
        split: "shifted": one share, the first 70% of the cases by name for training; a number: that many folds, by
            group where the cases have groups; "groups": a fold for each group or, without groups, for each case.
        work: the folder to write to.
        few: use only that many training and unseen cases of each share, to try the programs out.
    Returns: the shares, in order.
    """
    return tuple(
        _write(dataset, name, train[:few], unseen[:few], work / name) for name, train, unseen in _divide(dataset, split)
    )


def _divide(dataset: Dataset, split: str) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    ids = tuple(case.id for case in sorted(dataset.labelled, key=lambda case: case.id))
    if split == "shifted":
        first = round(len(ids) * SHIFTED)
        return [("shifted", ids[:first], ids[first:])]
    groups = len({case.group or case.id for case in dataset.labelled})
    if split != "groups" and not re.fullmatch(r"[1-9]\d*", split):
        raise SystemExit(f"--split {split} is unknown: shifted, groups, or a number of folds")
    count = groups if split == "groups" else int(split)
    if not 2 <= count <= groups:
        raise SystemExit(f"{groups} groups of cases cannot be divided into {count} folds")
    folds = make_folds(dataset, count, SEED)
    return [(f"fold{fold.index}", fold.train, fold.validation) for fold in folds]


def _write(dataset: Dataset, name: str, train: tuple[str, ...], unseen: tuple[str, ...], folder: Path) -> Share:
    share = Share(name, folder, train, unseen)
    if not share.whole_table.exists():
        cases = {case.id: case for case in dataset.labelled}
        described = json.loads((dataset.root / "dataset.json").read_text(encoding="utf-8"))
        content = json.dumps(described | {"numTraining": len(train)}, indent=1)
        _link_images([cases[case] for case in train], share.training / "imagesTr")
        _link_labels([cases[case] for case in train], share.training / "labelsTr")
        _link_images([cases[case] for case in unseen], share.images)
        _link_labels([cases[case] for case in unseen], share.references)
        write_text(share.training / "dataset.json", content)
        linked = read_dataset(share.training)
        grouped = [replace(case, group=cases[case.id].group) for case in linked.labelled]
        write_table(replace(linked, cases=tuple(grouped)), share.table)
        whole = [replace(case, split="train") for case in grouped]
        write_table(replace(linked, cases=tuple(whole)), share.whole_table)
    if tuple(sorted(stem_of(file) for file in share.references.iterdir())) != tuple(sorted(unseen)):
        raise SystemExit(f"{folder} contains other cases: choose another --work")
    return share


def _link_images(cases: Sequence[Case], folder: Path) -> None:
    for file in (file for case in cases for file in case.images):
        link(folder / file.name, file)


def _link_labels(cases: Sequence[Case], folder: Path) -> None:
    for case in cases:
        assert isinstance(case.label, Path)
        link(folder / case.label.name, case.label)
