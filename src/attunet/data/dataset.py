"""A data set: its cases, the names of its labels and channels, and its problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

__all__ = ["Case", "Dataset", "DatasetOptions", "Problem"]


@dataclass(frozen=True)
class Case:
    """One examination.

    Args:
        id: unique in its data set, usable as a file name.
        images: one file per channel, or one file that holds all channels.
        label: the mask; None when there is none.
        group: the patient; cases of one group are never on both sides of a fold. None: a group of its own.
        split: train, val or test where the data set decides it; None: left to the folds.
        annotated: names of the labels that were annotated in this case; None: all of them.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    group: str | None = None
    split: str | None = None
    annotated: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """How to read a data set, where its files leave a choice.

    Args:
        pattern: the names of images relative to the folder, such as "{id}/{id}_{channel}.nii.gz"; None: found from the
            names.
        label_pattern: the names of labels, such as "{id}/{id}_seg.nii.gz"; None: found from the names.
        rater: the rater whose masks are used; None: the first.
    """

    pattern: str | None = None
    label_pattern: str | None = None
    rater: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The options that differ from the defaults, as JSON values."""
        default = asdict(DatasetOptions())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The options that `to_dict` wrote. Raises: TypeError for an unknown name."""
        return cls(**values)


@dataclass(frozen=True)
class Problem:
    """Something about a data set that its owner should know.

    Args:
        case: id of the case, empty when the problem concerns the whole data set.
        kind: a fixed word or two to filter by, such as "grid mismatch".
        message: what was found.
        remedy: what to do about it.
        severity: a warning needs no repair, because the product handles it; a problem does.
    """

    case: str
    kind: str
    message: str
    remedy: str
    severity: Literal["problem", "warning"] = "problem"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The cases of a data set and what its description declares.

    Args:
        root: the folder, or the CSV file.
        layout: name of the layout, one of `attunet.data.layouts.LAYOUTS`.
        cases: sorted by id.
        label_names: name to value in the label files, without the ignore label; None when undeclared.
        channel_names: as declared, empty when undeclared.
        ignore_label: value of voxels that do not count; None when undeclared.
        problems: those visible without reading images, such as labels without an image.
        regions: name to the values it unites, where the data set declares overlapping targets, in the order in
            which they are written into a mask.
        options: how it was read.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    label_names: dict[str, int] | None = None
    channel_names: tuple[str, ...] = ()
    ignore_label: int | None = None
    problems: tuple[Problem, ...] = ()
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    options: DatasetOptions = field(default_factory=DatasetOptions)

    @property
    def name(self) -> str:
        """Name of the folder, or of the CSV file without its suffix."""
        return self.root.resolve().stem if self.root.is_file() else self.root.resolve().name

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The cases that have a label."""
        return tuple(case for case in self.cases if case.label is not None)
