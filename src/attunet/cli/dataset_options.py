"""Options of commands that read a data set: what its files leave open, such as overlapping masks and time series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Literal

import typer

from attunet.data.dataset import DatasetOptions, MissingLabels, Overlap
from attunet.errors import ConfigError

__all__ = [
    "AS_FOUND",
    "AllowOutsideOption",
    "FrameOption",
    "KeyOption",
    "LabelKeyOption",
    "PatternOption",
    "dataset_options",
    "of_labels",
    "parse_frame",
    "reads_data",
]

EVERY_FRAME = "all"
AS_FOUND = DatasetOptions()
"""The default of a command's parameter `reading`."""

LabelPatternOption = Annotated[
    str | None,
    typer.Option(metavar="PATTERN", help='Names of the label files, such as "{id}/{id}_seg.nii.gz". [default: found]'),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN", help='Names of the image files, such as "{id}/{id}_{channel}.nii.gz". [default: found]'
    ),
]
RaterOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Use the masks of this rater, where several drew them. [default: the first]"),
]

AllowOutsideOption = Annotated[
    bool,
    typer.Option("--allow-outside", help="Let headers (.mhd, .nhdr) name data files outside their own folder."),
]
FrameOption = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Time to read of 4-D images, from 0; all: every time is a channel. [default: all, but reported]",
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Array to read of images that hold several, as NPZ, MATLAB and HDF5 files do."),
]
LabelKeyOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Array to read of label files that hold several; may be the file of the image."),
]
MergeInstancesOption = Annotated[
    bool,
    typer.Option("--merge-instances", help="Where each object has a mask file, learn all of them as one label."),
]
MissingLabelsOption = Annotated[
    MissingLabels,
    typer.Option(help="Where each label has a file: what a missing file says about its label in that case."),
]
OverlapOption = Annotated[
    Overlap,
    typer.Option(
        help="Where each label has a file: what becomes of voxels in several. last: the last file counts; "
        "regions: overlapping labels are learnt as regions."
    ),
]


def reads_data(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command flags of `dataset_options`, these or all, in place of its parameter `reading: DatasetOptions`.

    typer reads the flags of a command from its signature, so that the command gets another one.
    """
    flags = [
        flag
        for flag in signature(dataset_options, eval_str=True).parameters.values()
        if flag.name in names or not names
    ]

    def with_flags(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            chosen = {flag.name: values.pop(flag.name) for flag in flags}
            command(reading=dataset_options(**chosen), **values)

        given = signature(command, eval_str=True).parameters.values()
        parts = [part for one in given for part in (flags if one.name == "reading" else [one])]
        vars(run)["__signature__"] = Signature([part.replace(kind=Parameter.KEYWORD_ONLY) for part in parts])
        run.__annotations__ = {part.name: part.annotation for part in parts}
        del vars(run)["__wrapped__"]
        return run

    return with_flags


def dataset_options(
    *,
    pattern: PatternOption = None,
    label_pattern: LabelPatternOption = None,
    rater: RaterOption = None,
    overlap: OverlapOption = "refuse",
    missing_labels: MissingLabelsOption = "unannotated",
    merge_instances: MergeInstancesOption = False,
    frame: FrameOption = None,
    allow_outside: AllowOutsideOption = False,
    key: KeyOption = None,
    label_key: LabelKeyOption = None,
) -> DatasetOptions:
    """See `DatasetOptions`: its fields as the flags of a command. Raises: ConfigError for a frame that is no number."""
    return DatasetOptions(
        pattern=pattern,
        label_pattern=label_pattern,
        rater=rater,
        overlap=overlap,
        missing_labels=missing_labels,
        merge_instances=merge_instances,
        frame=parse_frame(frame),
        allow_outside=allow_outside,
        key=key,
        label_key=label_key,
    )


def of_labels(reading: DatasetOptions, labels: str | None) -> DatasetOptions:
    """The options, with which only the masks of labels are read that --labels names without a value."""
    names = [name.strip() for name in (labels or "").split(",")]
    return replace(reading, masks=tuple(names)) if labels and "=" not in labels else reading


def parse_frame(text: str | None) -> int | Literal["all"] | None:
    """The index of a frame from "0", or "all"; None for None. Raises: ConfigError."""
    if text is None:
        return None
    if text.lower() == EVERY_FRAME:
        return "all"
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ConfigError(f"--frame got {text!r}, expected a number from 0, or all", hint="write --frame 0")
    return int(text)
