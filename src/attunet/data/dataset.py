"""What a folder of labelled scans is, once recognised: a list of cases and the names that belong to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["Case", "Dataset", "Problem"]


@dataclass(frozen=True)
class Case:
    """One examination.

    Args:
        id: unique in its data set, usable as a file name.
        images: one file per channel, or one file that holds all channels.
        label: the mask, None when there is none.
        group: cases of one group (a patient) never lie on both sides of a fold; None is a group of its own.
        split: train, val or test where the user decided it.
        annotated: names of the labels that were annotated in this case; None when all were.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    group: str | None = None
    split: str | None = None
    annotated: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Problem:
    """Something about a data set that its owner should know.

    Args:
        case: id of the case, empty when it concerns the whole set.
        kind: a fixed word or two to filter by.
        message: what was found; remedy: what to do.
        severity: a notice is handled by the product, a problem is not.
    """

    case: str
    kind: str
    message: str
    remedy: str
    severity: Literal["problem", "notice"] = "problem"


@dataclass(frozen=True)
class Dataset:
    """The cases of a data set and what its description declares.

    Args:
        root: the folder, or the CSV file.
        layout: msd, nnunet, plain or csv.
        cases: sorted by id.
        label_names: name to value in the label files, without the ignore label; None when undeclared.
        regions: name to the values it unites, where the set declares overlapping targets, in painting order.
        channel_names: as declared, empty when undeclared.
        ignore_label: value of voxels that do not count, if declared.
        problems: what shows without reading an image, such as labels without an image.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    label_names: dict[str, int] | None
    channel_names: tuple[str, ...]
    ignore_label: int | None
    problems: tuple[Problem, ...] = ()
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the folder, or of the CSV file without its suffix."""
        return self.root.resolve().stem if self.root.is_file() else self.root.resolve().name

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The cases that have a label."""
        return tuple(case for case in self.cases if case.label is not None)
