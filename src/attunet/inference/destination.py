"""Where the results of a batch go: flat, named by case, or as a BIDS derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attunet.data.cases import Case, output_suffix
from attunet.data.formats import format_of, mask_suffix
from attunet.errors import ConfigError
from attunet.inference.bids import bids_mask, describe_derivative, save_bids
from attunet.inference.prediction import Prediction

__all__ = ["OutputLayout", "begin_output", "mask_path", "save_outputs", "written_as"]

OutputLayout = Literal["flat", "bids"]
"""A mask per case in one folder, or the folders and names of BIDS, with its sidecars."""


@dataclass(frozen=True)
class _Destination:
    """The functions of a layout: the mask of a case, writing a prediction, preparing the folder."""

    mask: Callable[[Case, Path], Path]
    save: Callable[[Prediction, Case, Path], Path]
    begin: Callable[[Sequence[Case], Path], None]


def begin_output(cases: Sequence[Case], output: Path, layout: OutputLayout = "flat") -> None:
    """Prepare the folder of a batch.

    Args:
        cases: the cases that will be written.
        output: the folder.
        layout: its layout.
    Raises: ConfigError when a mask would overwrite an image, or a BIDS derivative cannot hold the cases.
    """
    overwritten = [
        case.id for case in cases if mask_path(case, output, layout).resolve() in map(Path.resolve, case.images)
    ]
    if overwritten:
        raise ConfigError(
            f"the masks of {', '.join(overwritten[:5])} would overwrite their images", hint="choose another -o"
        )
    LAYOUTS[layout].begin(cases, output)


def mask_path(case: Case, output: Path, layout: OutputLayout = "flat") -> Path:
    """The path of a case's mask.

    Args:
        case: the case.
        output: the folder of the batch.
        layout: its layout.
    Returns: the path.
    Raises: ConfigError when the case is not named as in BIDS, for that layout.
    """
    return LAYOUTS[layout].mask(case, output)


def save_outputs(prediction: Prediction, case: Case, output: Path, layout: OutputLayout = "flat") -> Path:
    """Write the results of a case; the mask is last, and marks the case as done.

    Args:
        prediction: what to write.
        case: its case.
        output: the folder of the batch.
        layout: its layout.
    Returns: the file of the mask.
    Raises: FormatError when a file cannot be written.
    """
    return LAYOUTS[layout].save(prediction, case, output)


def written_as(case: Case, layout: OutputLayout = "flat") -> tuple[str, ...]:
    """Why the mask of a case has another format than its image, where that format is only read; in sentences."""
    suffix = output_suffix(case)
    if layout == "bids" or format_of(suffix).write is not None:
        return ()
    return (f"its mask is written as {mask_suffix(suffix)}, because {suffix} files are only read",)


def _flat_mask(case: Case, output: Path) -> Path:
    return output / f"{case.id}{mask_suffix(output_suffix(case))}"


def _save_flat(prediction: Prediction, case: Case, output: Path) -> Path:
    return prediction.save(output, suffix=output_suffix(case))


LAYOUTS: dict[str, _Destination] = {
    "flat": _Destination(_flat_mask, _save_flat, lambda _cases, _output: None),
    "bids": _Destination(bids_mask, save_bids, describe_derivative),
}
"""Every layout of outputs by its name."""
