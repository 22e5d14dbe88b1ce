"""`attunet plan`: what would be trained on a data set, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from attunet.cli.console import progress_bar, show
from attunet.cli.options import (
    DatasetArgument,
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

if TYPE_CHECKING:
    from attunet.config import Plan
    from attunet.data.cases import Dataset
    from attunet.planning.budget import Dials
    from attunet.planning.fingerprint import Fingerprint

__all__ = ["make_dials", "plan", "plan_dataset"]


def plan(
    dataset: DatasetArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the plan to this file, to edit and train with --plan."),
    ] = None,
    network: NetworkOption = "default",
    size: SizeOption = "auto",
    memory: MemoryOption = None,
    resolution: ResolutionOption = "auto",
    gate: GateOption = None,
    spatial_dims: SpatialDimsOption = None,
    labels: LabelsOption = None,
    geometry: GeometryOption = "fail",
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show what `attunet train` would do with a data set: every number with its reason. Trains nothing."""
    from attunet.cli.tables.plans import alternatives_table, plan_table
    from attunet.data.cases import read_dataset
    from attunet.files import write_text

    dials = make_dials(network, size, gate, spatial_dims, device, memory=memory, resolution=resolution)
    facts = _fingerprint(read_dataset(dataset), labels, geometry)
    made = _fitted(facts, dials)
    text = made.model_dump_json(indent=2)
    if output is not None:
        write_text(output, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        show(plan_table(made), alternatives_table(facts, dials, made))


def make_dials(
    network: str,
    size: str,
    gate: str | None,
    spatial_dims: int | None,
    device: str,
    *,
    memory: str | None = None,
    resolution: str = "auto",
) -> Dials:
    """The planner's dials from what was typed. Raises: ConfigError for a memory that is no amount."""
    from attunet.planning.budget import Dials, Preset, Resolution, Size
    from attunet.planning.hardware import auto_size, machine_of

    chosen, reason = auto_size(device) if size == "auto" else (cast(Size, size), "chosen with --size")
    return Dials(
        size=chosen,
        size_reason=reason,
        spatial_dims=cast(Literal[2, 3] | None, spatial_dims),
        preset=cast(Preset, network),
        gate=cast(Literal["grid", "multi", "additive", "none"] | None, gate),
        resolution=cast(Resolution, resolution),
        device=machine_of(device),
        memory_gb=parse_memory(memory),
    )


def plan_dataset(dataset: Dataset, dials: Dials, labels: str | None, geometry: Geometry) -> Plan:
    """Fingerprint, plan, and fit into the memory by a dry step, with a progress bar.

    Raises: ConfigError, DatasetError, LabelError and DataError for what cannot be planned.
    """
    return _fitted(_fingerprint(dataset, labels, geometry), dials)


def _fingerprint(dataset: Dataset, labels: str | None, geometry: Geometry) -> Fingerprint:
    from attunet.planning.fingerprint import fingerprint

    wanted = parse_labels(labels, dataset.label_names)
    with progress_bar() as progress:
        task = progress.add_task("fingerprint", total=sum(case.label is not None for case in dataset.cases))
        return fingerprint(dataset, labels=wanted, geometry=geometry, advance=lambda: progress.advance(task))


def _fitted(facts: Fingerprint, dials: Dials) -> Plan:
    """The plan that the device has memory for; measured where torch is installed."""
    from importlib.util import find_spec

    from attunet.planning.hardware import memory_limit
    from attunet.planning.memory import Measured, fit_memory
    from attunet.planning.planner import make_plan

    def measure(plan: Plan) -> Measured:
        from attunet.training.dry_step import measure_step

        return measure_step(plan, dials.device)

    with progress_bar() as progress:
        progress.add_task("dry step", total=None)
        return fit_memory(
            lambda voxels: make_plan(facts, dials, voxels),
            memory_limit(dials.device, dials.memory_gb),
            measure if find_spec("torch") else None,
            # On a CPU many small steps teach more than few large ones.
            growth=2.0 if dials.device == "cuda" else 1.0,
        )
