"""Options of commands that read a data set: what its files leave open, such as overlapping masks and time series."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from attunet.data.dataset import DatasetOptions, MissingLabels, Overlap
from attunet.errors import ConfigError

__all__ = [
    "AllowOutsideOption",
    "FrameOption",
    "KeyOption",
    "LabelKeyOption",
    "MergeInstancesOption",
    "MissingLabelsOption",
    "OverlapOption",
    "dataset_options",
    "parse_frame",
]

EVERY_FRAME = "all"

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


def dataset_options(*, frame: str | None = None, **chosen: Any) -> DatasetOptions:
    """The options of reading a data set, from flags; `chosen` has the other fields of `DatasetOptions`.

    Raises: ConfigError for a frame that is no number.
    """
    return DatasetOptions(frame=parse_frame(frame), **chosen)


def parse_frame(text: str | None) -> int | Literal["all"] | None:
    """The index of a frame from "0", or "all"; None for None. Raises: ConfigError."""
    if text is None:
        return None
    if text.lower() == EVERY_FRAME:
        return "all"
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ConfigError(f"--frame got {text!r}, expected a number from 0, or all", hint="write --frame 0")
    return int(text)
