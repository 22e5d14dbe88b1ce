"""The cases to explain: held-out cases of the folds, or images with reference masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attunet.bundle import held_out_cases, load_model
from attunet.data.cases import Case, DatasetOptions, GeometryPolicy, find_cases, output_suffix
from attunet.data.formats import is_dicom_image, mask_suffix, stem_of
from attunet.data.layouts.dicom_cases import SeriesChoice
from attunet.data.layouts.image_files import image_files
from attunet.errors import ConfigError, DatasetError

__all__ = [
    "ExplainCase",
    "check_overwrites",
    "find_labelled_cases",
    "select_held_out",
    "spread_evenly",
]


@dataclass(frozen=True)
class ExplainCase:
    """A case to explain.

    Args:
        case: its files.
        folds: the folds that segment it; None for all.
        geometry: what to do where the grid of its label differs from the image's.
    """

    case: Case
    folds: tuple[int, ...] | None = None
    geometry: GeometryPolicy = "fail"


def find_labelled_cases(
    model: str | Path,
    images: Sequence[Path],
    labels: Path | None = None,
    options: DatasetOptions | None = None,
    series: SeriesChoice | None = None,
) -> tuple[Case, ...]:
    """The cases in image files and folders, with reference masks that are named like the images.

    Args:
        model: model folder; its number of channels determines which files belong to one case.
        images: image files, and folders of them.
        labels: a mask, or a folder of masks; None for cases without a reference.
        options: the frame and the arrays to read; None: the only ones.
        series: which series of DICOM are explained, and how they are named; None: all.
    Returns: the cases in the order of `images`.
    Raises: DatasetError when a path is missing or a case has no mask among the labels.
    """
    plan = next(iter(load_model(Path(model)).members.values())).plan
    chosen = series or SeriesChoice()
    cases = find_cases(images, len(plan.channel_names), options, names=plan.channel_names, series=chosen)
    if labels is None:
        return cases
    if not labels.exists():
        raise DatasetError(f"{labels} does not exist", hint="check --labels")
    if labels.is_file() and len(cases) == 1 and is_dicom_image(cases[0].images[0]):
        return (replace(cases[0], label=labels),)
    masks = {stem_of(path): path for path in ([labels] if labels.is_file() else image_files(labels))}
    if absent := [case.id for case in cases if case.id not in masks]:
        raise DatasetError(
            f"{labels} contains no mask of {', '.join(absent[:5])}",
            hint="masks are named like their images, CASE.nii.gz",
        )
    return tuple(replace(case, label=masks[case.id]) for case in cases)


def select_held_out(model: Path, folds: Sequence[int] | None) -> tuple[list[ExplainCase], tuple[str, ...]]:
    """The held-out cases of a model's folds, each to be explained by its fold, and warnings about other folds.

    Raises: DatasetError when no case was held out or the data set was moved; ConfigError when these folds have no
        held-out cases.
    """
    try:
        held_out, warnings = held_out_cases(model)
    except DatasetError as error:
        raise DatasetError(error.message, hint=f"{error.hint}; or pass images to explain with -i") from error
    selected = [ExplainCase(each.case, (each.fold,), each.geometry) for each in held_out]
    selected = [case for case in selected if folds is None or set(case.folds or ()) <= set(folds)]
    if not selected:
        raise ConfigError(f"fold {list(folds or ())} of {model} has no held-out cases", hint="choose another --fold")
    return selected, warnings


def spread_evenly(cases: list[ExplainCase], count: int | None) -> list[ExplainCase]:
    """At most this many of the cases, evenly spaced; None for all."""
    if count is None or count >= len(cases):
        return cases
    return [cases[index * len(cases) // count] for index in range(count)]


def check_overwrites(cases: Sequence[ExplainCase], output: Path) -> None:
    """Make sure that no mask is written over an image or label. Raises: ConfigError."""
    for case in (selected.case for selected in cases):
        target = output / f"{case.id}{mask_suffix(output_suffix(case))}"
        if target.resolve() in [path.resolve() for path in case.paths]:
            raise ConfigError(f"{target} would be overwritten by its mask", hint="choose another -o")
