"""`attunet plan`: the training plan for a data set, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from attunet.cli.console import notes, progress_bar, show
from attunet.cli.dataset_options import AS_FOUND, of_labels, reads_data
from attunet.cli.options import (
    CascadeOption,
    DatasetArgument,
    Device,
    DeviceOption,
    GateOption,
    Geometry,
    GeometryOption,
    LabelsOption,
    MemoryOption,
    NetworkOption,
    ResolutionOption,
    SizeOption,
    SpatialDimsOption,
    parse_labels,
    parse_memory,
)
from attunet.data.dataset import DatasetOptions
from attunet.gates import Gate

if TYPE_CHECKING:
    from attunet.config import Plan
    from attunet.data.cases import Dataset
    from attunet.data.labels import Values
    from attunet.planning.fingerprint import Fingerprint
    from attunet.planning.options import PlanOptions

__all__ = ["plan", "plan_options"]


@reads_data()
def plan(
    dataset: DatasetArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the plan to this file, to edit it and train with --plan."),
    ] = None,
    network: NetworkOption = None,
    size: SizeOption = "auto",
    memory: MemoryOption = None,
    resolution: ResolutionOption = "auto",
    cascade: CascadeOption = "auto",
    gate: GateOption = None,
    spatial_dims: SpatialDimsOption = None,
    labels: LabelsOption = None,
    geometry: GeometryOption = "fail",
    reading: DatasetOptions = AS_FOUND,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show what `attunet train` would do with a data set: every number with its reason. Trains nothing."""
    from attunet.cli.tables.plans import alternatives_table, plan_table
    from attunet.data.cases import read_dataset
    from attunet.files import write_text

    source = read_dataset(dataset, of_labels(reading, labels))
    options = plan_options(
        network,
        size,
        gate,
        spatial_dims,
        device,
        memory=memory,
        resolution=resolution,
        cascade=cascade,
        labels=parse_labels(labels, source.label_names),
        geometry=geometry,
    ).resolved()
    facts, made = _plan(source, options)
    text = made.model_dump_json(indent=2)
    if output is not None:
        write_text(output, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        show(plan_table(made), alternatives_table(facts, options, made))


def plan_options(
    network: str | None,
    size: str,
    gate: str | None,
    spatial_dims: int | None,
    device: str,
    *,
    memory: str | None = None,
    resolution: str = "auto",
    cascade: str = "auto",
    labels: Mapping[str, Values] | None = None,
    geometry: Geometry = "fail",
) -> PlanOptions:
    """The planner's options from the command line. Raises: ConfigError for an invalid memory."""
    from attunet.planning.options import Cascade, PlanOptions, Preset, Resolution, Size

    return PlanOptions(
        size=cast(Size | Literal["auto"], size),
        spatial_dims=cast(Literal[2, 3] | None, spatial_dims),
        preset=cast(Preset | Literal["auto"], network or "auto"),
        gate=cast(Gate | Literal["none"] | None, gate),
        resolution=cast(Resolution, resolution),
        cascade=cast(Cascade, cascade),
        labels=labels,
        geometry=geometry,
        device=cast(Device, device),
        memory_gb=parse_memory(memory),
    )


def _plan(dataset: Dataset, options: PlanOptions) -> tuple[Fingerprint, Plan]:
    """Fingerprint and plan of a data set, with a progress bar.

    Raises: ConfigError, DatasetError, LabelError and DataError for what cannot be planned.
    """
    from attunet.planning.fingerprint import fingerprint
    from attunet.planning.plan_dataset import plan_within_memory

    with progress_bar() as progress:
        task = progress.add_task("fingerprint", total=sum(case.label is not None for case in dataset.cases))
        facts = fingerprint(
            dataset, labels=options.labels, geometry=options.geometry, advance=lambda: progress.advance(task)
        )
    for warning in facts.warnings:
        notes().print(f"warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    with progress_bar() as progress:
        progress.add_task("dry step", total=None)
        return facts, plan_within_memory(facts, options)
