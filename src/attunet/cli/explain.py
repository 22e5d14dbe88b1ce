"""`attunet explain`: where a model looks, what that is worth, and what happens without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attunet.cli.console import fail, notes, progress_bar, results
from attunet.cli.options import DeviceOption, parse_folds
from attunet.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from attunet.data.cases import Case
    from attunet.explanation.explanation import ExplainCase

__all__ = ["explain"]


def explain(
    model: Annotated[Path, typer.Option("-m", "--model", metavar="RUN", help="Model folder with attention gates.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for maps, numbers, report.")],
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "-i", "--input", metavar="PATH", help="Images to explain. [default: the cases its folds have not seen]"
        ),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More images, after -i A B C.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Reference masks named like the images; without, the model's own masks."),
    ] = None,
    fold: Annotated[str, typer.Option(help="Fold to use, or all.")] = "all",
    cases: Annotated[int | None, typer.Option(min=1, help="Explain at most so many, evenly picked.")] = None,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Replace gates by 1, their mean, 0 and shuffled maps, and score again.")
    ] = False,
    faithfulness: Annotated[
        bool, typer.Option("--faithfulness", help="Delete and insert the image by attention, and score again.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Show where a model looks: attention maps on each image's grid, their scores against chance, and a report.

    Every gate is scored against each label (share, lift, pointing game, AUROC, …), beside two nulls: the same network
    with shuffled weights, and the maps of other cases. DIR gets masks, attention/ (maps as NIfTI), summary.json with
    every number, report.html, and its figures as PNG and SVG.
    """
    from attunet.explanation.report import write_explanation
    from attunet.explanation.study import Study

    selected_cases = _chosen(_subjects(model, [*(images or []), *(more or [])], labels, fold), cases)
    with progress_bar() as progress:
        task = progress.add_task("explaining", total=None)
        study = Study(
            model,
            selected_cases,
            output,
            device=device,
            ablation=ablate,
            faithfulness=faithfulness,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
            failed=lambda case, error: fail(f"{case}: {error.message}", error.hint),
        )
        found = study.run()
        report = write_explanation(found, output)
    for line in found.sentences:
        results().print(line, markup=False, highlight=False, soft_wrap=True)
    if not images and cases is None and fold == "all":
        found.save_worth(model)
    notes().print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)
    if len(found.cases) < len(selected_cases):
        raise typer.Exit(1)


def _subjects(model: Path, images: Sequence[Path], labels: Path | None, fold: str) -> list[ExplainCase]:
    from attunet.explanation.explanation import ExplainCase

    folds = parse_folds(fold)
    if images:
        return [ExplainCase(case, None if folds is None else tuple(folds)) for case in _given(model, images, labels)]
    if labels is not None:
        raise ConfigError("--labels was given without images", hint="name the images they belong to with -i")
    return _unseen(model, folds)


def _given(model: Path, images: Sequence[Path], labels: Path | None) -> list[Case]:
    """The cases of files and folders, with their references if there are any."""
    from attunet.bundle import load_model
    from attunet.data.cases import find_cases
    from attunet.data.formats import stem_of
    from attunet.data.layouts.image_files import image_files

    plan = next(iter(load_model(model).members.values())).plan
    found = list(find_cases(images, plan.network.in_channels))
    if labels is None:
        return found
    if not labels.exists():
        raise DatasetError(f"{labels} does not exist", hint="check --labels")
    masks = {stem_of(path): path for path in ([labels] if labels.is_file() else image_files(labels))}
    if absent := [case.id for case in found if case.id not in masks]:
        raise DatasetError(
            f"{labels} holds no mask of {', '.join(absent[:5])}", hint="masks are named like their images, CASE.nii.gz"
        )
    return [replace(case, label=masks[case.id]) for case in found]


def _unseen(model: Path, folds: list[int] | None) -> list[ExplainCase]:
    """The cases that a run's folds have not seen, each to be explained by its own fold."""
    from attunet.bundle import unseen_cases
    from attunet.explanation.explanation import ExplainCase

    try:
        found, notices = unseen_cases(model)
    except DatasetError as error:
        raise DatasetError(error.message, hint=f"{error.hint}; or name images to explain with -i") from error
    for notice in notices:
        notes().print(notice, style="yellow", markup=False)
    kept = [each for each in found if folds is None or each.fold in folds]
    if not kept:
        raise ConfigError(f"fold {folds} of {model} has no unseen cases", hint="choose another --fold")
    return [ExplainCase(each.case, (each.fold,), each.geometry) for each in kept]


def _chosen(selected_cases: list[ExplainCase], most: int | None) -> list[ExplainCase]:
    """At most so many, spread evenly over all."""
    if most is None or most >= len(selected_cases):
        return selected_cases
    return [selected_cases[index * len(selected_cases) // most] for index in range(most)]
