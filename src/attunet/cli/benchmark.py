"""`attunet benchmark`: the fastest engine for a model on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attunet.cli.console import notes, progress_bar, show

__all__ = ["benchmark"]


def benchmark(
    model: Annotated[Path, typer.Option("-m", "--model", metavar="RUN", help="Model folder; its first fold is timed.")],
    image: Annotated[Path, typer.Option("-i", "--input", metavar="IMAGE", help="Image whose windows are timed.")],
    repeat: Annotated[
        int, typer.Option(min=1, help="Number of rounds; in each, every engine processes all windows once.")
    ] = 5,
    write: Annotated[
        bool, typer.Option("--write", help="Use the fastest CPU engine for this model from now on.")
    ] = False,
) -> None:
    """Time every installed engine in turn, and compare its results with those of torch in fp32.

    Up to 8 evenly spaced windows of the image are used. Only an engine whose masks agree (Dice of 0.999 or more) is
    chosen. Without torch, the reference is OpenVINO in fp32.
    """
    from attunet.cli.tables.models import engine_table
    from attunet.cli.tables.table import sizes
    from attunet.export.benchmark import benchmark_model, use_fastest

    with progress_bar() as progress:
        task = progress.add_task("benchmark", total=None)
        measured = benchmark_model(
            model,
            image,
            repeat=repeat,
            on_start=lambda steps: progress.update(task, total=steps),
            advance=lambda: progress.advance(task),
        )
    show(engine_table(measured.timings, measured.fastest))
    patch, fold = measured.bundle.plan.patch_size, measured.bundle.folds[0].name
    text = f"{measured.windows} windows of {sizes(patch)} voxels, {repeat} rounds, fold {fold}"
    notes().print(text, markup=False, highlight=False, soft_wrap=True)
    if write:
        use_fastest(measured)
        notes().print(f"{model} now uses {measured.fastest.name}", markup=False, soft_wrap=True)
