"""`attunet inspect`: the contents of a data set, and its problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from attunet.cli.dataset_options import AS_FOUND, reads_data
from attunet.data.dataset import DatasetOptions

__all__ = ["inspect"]


@reads_data()
def inspect(
    dataset: Annotated[Path, typer.Argument(help="Folder of images and labels in any layout, or a CSV file.")],
    geometry: Annotated[
        Literal["fail", "copy-affine", "resample"],
        typer.Option(help="What to do when the grid of a label differs from that of its image."),
    ] = "fail",
    reading: DatasetOptions = AS_FOUND,
    write_csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the cases to a CSV file, to edit it and use it as the data set."),
    ] = None,
    cases: Annotated[bool, typer.Option("--cases", help="List every case, however many there are.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Check a data set: list its cases, and every problem with a suggested fix.

    Exit code: 0 without problems, 1 with problems, 2 when no data set is found. Warnings need no action.
    """
    from attunet.cli.console import notes, progress_bar, show
    from attunet.cli.tables.datasets import inspection_tables
    from attunet.data.cases import read_dataset
    from attunet.data.checks import inspect as inspect_dataset
    from attunet.data.layouts.table import write_table

    loaded = read_dataset(dataset, reading)
    if write_csv is not None:
        write_table(loaded, write_csv)
        notes().print(f"cases: {write_csv}", markup=False, highlight=False, soft_wrap=True)
    with progress_bar() as progress:
        task = progress.add_task("reading", total=len(loaded.cases))
        result = inspect_dataset(loaded, geometry=geometry, advance=lambda: progress.advance(task))
    if json:
        typer.echo(result.to_json())
    else:
        show(inspection_tables(result, every_case=cases))
    if not result.clean:
        raise typer.Exit(1)
