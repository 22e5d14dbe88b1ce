"""`attunet explain`: where a model looks, and what happens when its gates are replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attunet.cli.console import fail, notes, progress_bar, results
from attunet.cli.dataset_options import AS_FOUND, reads_data
from attunet.cli.dicom_options import series_choice
from attunet.cli.options import DeviceOption, parse_folds
from attunet.data.dataset import DatasetOptions
from attunet.errors import AttunetError, ConfigError

__all__ = ["explain"]


@reads_data("frame", "allow_outside", "key", "label_key")
def explain(
    model: Annotated[Path, typer.Option("-m", "--model", metavar="RUN", help="Model folder with attention gates.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for maps, scores and the report.")
    ],
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "-i", "--input", metavar="PATH", help="Images to explain. [default: the held-out cases of its folds]"
        ),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="More images, after -i A B C.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Reference masks named like the images. [default: the model's own masks]"),
    ] = None,
    fold: Annotated[str, typer.Option(help="Fold to use, or all.")] = "all",
    cases: Annotated[int | None, typer.Option(min=1, help="Explain at most N cases, evenly spaced.")] = None,
    ablate: Annotated[
        bool,
        typer.Option("--ablate", help="Replace the gates with 1, their mean, 0 and shuffled maps, and score again."),
    ] = False,
    faithfulness: Annotated[
        bool,
        typer.Option("--faithfulness", help="Delete and insert image regions in order of attention, and score again."),
    ] = False,
    reading: DatasetOptions = AS_FOUND,
    device: DeviceOption = "auto",
) -> None:
    """Show where a model looks: attention maps on each image's grid, their scores against chance, and a report.

    Every gate is scored against each label (share, lift, pointing game, AUROC, …), next to two baselines: the same
    network with shuffled weights, and the maps of other cases. The command writes to DIR: masks, attention/ (maps as
    NIfTI), summary.json with every number, report.html, and its figures as PNG and SVG.
    """
    from attunet.explanation.cases import find_labelled_cases
    from attunet.explanation.explain import ExplainOptions
    from attunet.explanation.explain import explain as explain_model

    paths, folds = [*(images or []), *(more or [])], parse_folds(fold)
    if labels is not None and not paths:
        raise ConfigError("--labels was given without images", hint="pass the images of these masks with -i")
    series = series_choice(None, None, output, dry_run=False)
    failed = []

    def report_error(case: str, error: AttunetError) -> None:
        failed.append(case)
        fail(f"{case}: {error.message}", error.hint)

    with progress_bar() as bar:
        task = bar.add_task("explaining", total=None)
        explanation = explain_model(
            model,
            find_labelled_cases(model, paths, labels, reading, series) if paths else None,
            output,
            ExplainOptions(
                folds=folds,
                max_cases=cases,
                ablation=ablate,
                faithfulness=faithfulness,
                device=device,
            ),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            on_error=report_error,
        )
    for warning in explanation.warnings:
        notes().print(warning, style="yellow", markup=False)
    for finding in explanation.findings:
        results().print(finding, markup=False, highlight=False, soft_wrap=True)
    notes().print(f"report: {output / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)
