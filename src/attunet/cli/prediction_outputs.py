"""What `attunet predict` writes, from the words of its command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attunet.cli.prediction_run import show_notices
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from attunet.explanation.prediction_hook import PredictionHook
    from attunet.inference.destination import Destination, OutputLayout
    from attunet.inference.segmenter import Segmenter

__all__ = ["OutputLayoutOption", "OutputTypeOption", "destination_of", "hook_of", "types_and_paths"]

OutputLayoutOption = Annotated[
    Literal["flat", "bids"],
    typer.Option(help="flat: a mask per case; bids: a BIDS derivative, with dseg and probseg files and sidecars."),
]
OutputTypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--output-type",
        metavar="TYPE",
        help="What is written, several at once: auto (masks in each image's format), nifti, and of DICOM series "
        "dicom-seg, dicom-labelmap, dicom-rtstruct, dicom-sr (volumes), dicom-attention, dicom-overlay (pictures). "
        "[default: auto]",
    ),
]


def types_and_paths(given: list[str] | None, more: list[str]) -> tuple[Sequence[str], list[str]]:
    """The types of output, and the other paths: --output-type A B C takes words that follow it, as -i does.

    A word that names types is a path only if there is such a file.
    """
    if given is None:
        return ["auto"], more
    from attunet.dicom.output_types import is_output_type

    words = [path for path in more if is_output_type(path) and not Path(path).exists()]
    return [*given, *words], [path for path in more if path not in words]


def destination_of(
    segmenter: Segmenter, types: Sequence[str], layout: OutputLayout, *, attention: bool, probabilities: bool
) -> Destination:
    """What is written.

    Raises: ConfigError when a requested result would be computed, and written into no file; as `make_destination`.
    """
    from attunet.dicom.output_types import make_destination, split_output_types

    images, objects = split_output_types(types)
    holders = (("--attention", attention, "dicom-attention"), ("--save-probabilities", probabilities, "dicom-seg"))
    for flag, requested, holder in holders:
        if images is None and requested and holder not in objects:
            raise ConfigError(f"{flag} is held by none of {', '.join(objects)}", hint=f"add {holder}, or nifti")
    destination, notices = make_destination(segmenter, images, objects, layout=layout)
    show_notices(notices)
    return destination


def hook_of(folder: Path | None, *, agreement: bool, attention: bool, modality: str) -> PredictionHook | None:
    """What draws previews and measures the agreement of attention and mask; None for neither."""
    if folder is None and not agreement:
        return None
    from attunet.explanation.prediction_hook import PredictionHook  # with matplotlib, half a second

    return PredictionHook(folder, agreement=agreement, attention=attention, modality=modality)
