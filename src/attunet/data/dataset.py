"""A data set: its cases, the names of its labels and channels, and its problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from attunet.config import SegmentCode
from attunet.storage import RemoteFile

__all__ = [
    "Case",
    "Dataset",
    "DatasetOptions",
    "LabelFiles",
    "LabelPart",
    "LeftOut",
    "MatchRule",
    "MissingLabels",
    "Overlap",
    "Problem",
]

MissingLabels = Literal["unannotated", "absent"]
"""What a missing file says about its label, where each label has a file: not annotated in that case, or absent."""

Overlap = Literal["refuse", "last", "regions"]
"""What becomes of voxels in several files of a label: an error, the last file's label, or overlapping regions."""


class LabelPart(NamedTuple):
    """One mask file of a label.

    Args:
        name: the label, to which its voxels other than 0 belong.
        value: the label's value in the whole.
        path: the file.
        key: the mask in a file that holds several, such as a segment of a DICOM segmentation; None: the only one.
    """

    name: str
    value: int
    path: Path
    key: str | None = None


@dataclass(frozen=True)
class LabelFiles:
    """A label that several masks make up, all on one grid, in files of their own or in one.

    Args:
        kind: "label": a file per label, as in TotalSegmentator; "object": a file per object of a single label, such as
            the nuclei of a picture, so that all parts have one name and one value; "slice": a picture for each slice
            of the image, a series of DICOM, whose values are those of the label.
        parts: the files in the order in which they are put together; labels without a file here are left out.
        values: the value of every label of the data set; empty: those of the parts.
        overlap: what becomes of voxels that are in several files of kind "label".
        merge: whether objects, or several masks of one name, become one label; without it they are not read, because
            they would be lost.
    """

    kind: Literal["label", "object", "slice"]
    parts: tuple[LabelPart, ...]
    values: tuple[int, ...] = ()
    overlap: Overlap = "refuse"
    merge: bool = False

    def __str__(self) -> str:
        """The file, or the folder of several, for records and messages."""
        paths = {part.path for part in self.parts}
        return str(paths.pop() if len(paths) == 1 else self.parts[0].path.parent) if paths else "no file"


@dataclass(frozen=True)
class Case:
    """One examination.

    Args:
        id: unique in its data set, usable as a file name.
        images: one file per channel, or one file that holds all channels.
        label: the mask, or the files that make it up; None when there is none.
        group: the patient; cases of one group are never on both sides of a fold. None: a group of its own.
        split: train, val or test where the data set decides it; None: left to the folds.
        annotated: names of the labels that were annotated in this case; None: all of them.
        frame: the time to read of 4-D series, from 0; None: every volume is a channel.
        key: the array to read of image files that hold several; None: the only one.
        label_key: the same of label files.
        raters: the masks of all raters, by name; empty when there is one.
        allow_outside: whether headers (`.mhd`, `.nhdr`) may name data files outside their folder.
        remote: where each of the images is, if they are at URLs and have to be fetched first, see
            `attunet.data.inputs.fetched`; empty for images on this machine.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | LabelFiles | None
    group: str | None = None
    split: str | None = None
    annotated: tuple[str, ...] | None = None
    frame: int | None = None
    key: str | None = None
    label_key: str | None = None
    raters: tuple[tuple[str, Path], ...] = ()
    allow_outside: bool = False
    remote: tuple[RemoteFile, ...] = ()

    @property
    def label_paths(self) -> tuple[Path, ...]:
        """The files of the label; empty when there is none."""
        if isinstance(self.label, LabelFiles):
            return tuple(dict.fromkeys(part.path for part in self.label.parts))
        return () if self.label is None else (self.label,)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file of the case: those of the image, then those of the label."""
        return (*self.images, *self.label_paths)

    @property
    def reading(self) -> dict[str, Any]:
        """How its files are read, as JSON values for the keys of caches; empty where nothing but the files matters."""
        chosen = {name: getattr(self, name) for name in ("frame", "key", "label_key")}
        how = {name: value for name, value in chosen.items() if value is not None}
        if isinstance(self.label, LabelFiles):
            how |= {name: getattr(self.label, name) for name in ("kind", "values", "overlap", "merge")}
            how["parts"] = [part.value for part in self.label.parts]
            how |= {"keys": keys} if any(keys := [part.key for part in self.label.parts]) else {}
        return how


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """How to read a data set, where its files leave a choice.

    Args:
        pattern: the names of images relative to the folder, such as "{id}/{id}_{channel}.nii.gz"; None: found from the
            names.
        label_pattern: the names of labels, such as "{id}/{id}_seg.nii.gz"; None: found from the names.
        rater: the rater whose masks are used; None: the first.
        overlap: what becomes of voxels in several files of a label: "refuse" raises an error, "last" keeps the label of
            the last file, "regions" makes every label a region.
        missing_labels: whether a label without a file in a case counts as not annotated there, or as absent.
        masks: the labels to read where each has a mask of its own, such as some segments of many; empty: all.
        merge_instances: whether the files of single objects become one label.
        frame: the time to read of 4-D series, from 0; "all": every time is a channel, on purpose; None: as "all", but
            series are reported.
        key, label_key: the array to read of image and label files that hold several; None: the only one.
        allow_outside: whether headers (`.mhd`, `.nhdr`) may name data files outside their folder.
    """

    pattern: str | None = None
    label_pattern: str | None = None
    rater: str | None = None
    overlap: Overlap = "refuse"
    missing_labels: MissingLabels = "unannotated"
    masks: tuple[str, ...] = ()
    merge_instances: bool = False
    frame: int | Literal["all"] | None = None
    key: str | None = None
    label_key: str | None = None
    allow_outside: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The options that differ from the defaults, as JSON values."""
        default = asdict(DatasetOptions())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The options that `to_dict` wrote. Raises: TypeError for an unknown name."""
        return cls(**{**values, "masks": tuple(values.get("masks", ()))})


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


class LeftOut(NamedTuple):
    """Files that belong to no case.

    Args:
        reason: why they were left out, and the option that uses them, if there is one.
        files: their paths below the data set.
    """

    reason: str
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MatchRule:
    """How cases were found from the names of files.

    Args:
        images: the patterns of images: one, with {channel} where there are several channels.
        labels: the patterns of labels.
        channels: the channels in order; empty where an image is one file.
        patients: what the patient of a case was read from; empty when each case is a patient of its own.
        raters: the raters of the labels; empty when the names tell of none.
        rater: the rater whose masks are used.
        left_out: the files that are no part of a case.
    """

    images: tuple[str, ...]
    labels: tuple[str, ...]
    channels: tuple[str, ...] = ()
    patients: str = ""
    raters: tuple[str, ...] = ()
    rater: str = ""
    left_out: tuple[LeftOut, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The rule as JSON values, with its text."""
        left_out = [{"reason": left.reason, "files": list(left.files)} for left in self.left_out]
        return {"text": str(self), **asdict(self), "left_out": left_out}

    def __str__(self) -> str:
        """The rule in one line, with the patterns that --pattern and --label-pattern accept."""
        parts = [f"case = {' or '.join(self.images)}"]
        parts += [f"channel{'s' * (len(self.channels) > 1)} {', '.join(self.channels)}"] if self.channels else []
        parts += [f"label = {' or '.join(self.labels)}"] if self.labels else []
        raters = [name or "unnamed" for name in self.raters]
        parts += [f"rater {self.rater or 'unnamed'} of {', '.join(raters)}"] if raters else []
        parts += [f"patient = {self.patients}"] if self.patients else []
        return ", ".join(parts)


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
        codes: label to its codes in a terminology, where the data set states them.
        options: how it was read.
        rule: how its cases were found from the names of files; None where a file declares them.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    label_names: dict[str, int] | None = None
    channel_names: tuple[str, ...] = ()
    ignore_label: int | None = None
    problems: tuple[Problem, ...] = ()
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    codes: dict[str, SegmentCode] = field(default_factory=dict)
    options: DatasetOptions = field(default_factory=DatasetOptions)
    rule: MatchRule | None = None

    @property
    def name(self) -> str:
        """Name of the folder, or of the CSV file without its suffix."""
        return self.root.resolve().stem if self.root.is_file() else self.root.resolve().name

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The cases that have a label."""
        return tuple(case for case in self.cases if case.label is not None)
