"""Tables of a plan, and of the weights that training starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attunet.cli.tables.table import Column, FittedTable, sizes, spacing

if TYPE_CHECKING:
    from attunet.config import Plan
    from attunet.nn.transfer import Transfer
    from attunet.planning.fingerprint import Fingerprint
    from attunet.planning.options import PlanOptions

__all__ = ["alternatives_table", "plan_table", "transfer_table"]


def plan_table(plan: Plan) -> FittedTable:
    """Every decision with its value and its reason."""
    table = FittedTable(
        Column(heading="Decision"),
        Column(heading="Value", kind="list"),
        Column(heading="Reason", kind="text"),
        title=f"Plan for {plan.name}",
    )
    network = plan.network
    values = {
        "labels": ", ".join(f"{name} = {value}" for name, value in plan.labels.items()),
        "modality": plan.modality,
        "size": plan.size,
        "spatial_dims": f"{network.spatial_dims}-D",
        "slice_axis": ("left-right", "front-back", "up-down")[plan.preprocessing.slice_axis],
        "spacing": f"{spacing(plan.preprocessing.spacing)} mm",
        "resolution": plan.resolution,
        "normalization": ", ".join(entry.kind for entry in plan.preprocessing.normalization),
        "patch_size": sizes(plan.patch_size),
        "batch_size": str(plan.batch_size),
        "network": plan.preset,
        "channels": ", ".join(str(width) for width in network.channels),
        "strides": ", ".join(sizes(stride) for stride in network.strides),
        "cascade": _cascade(plan),
        "mirror_axes": ", ".join(str(axis) for axis in plan.mirror_axes) or "none",
    }
    reasons = {"channels": "per level, from the finest to the coarsest", **plan.reasons}
    for name, value in values.items():
        table.add(name.replace("_", " "), value, reasons.get(name, f"found in {plan.fingerprint.cases} cases"))
    if "memory" in plan.reasons:
        table.add("memory", "fits", plan.reasons["memory"])
    return table


def _cascade(plan: Plan) -> str:
    """The localizer's grid, patch and share of the training, or off."""
    localizer = plan.localizer
    if localizer is None:
        return "off"
    return f"{spacing(localizer.spacing)} mm, patch {sizes(localizer.patch_size)}, {localizer.share:.0%} of the budget"


def alternatives_table(facts: Fingerprint, options: PlanOptions, plan: Plan) -> FittedTable:
    """The plan next to those with one option changed; their memory is estimated, not measured."""
    from attunet.planning.layers import count_parameters
    from attunet.planning.memory import estimate_gb
    from attunet.planning.plan_dataset import alternative_plans

    table = FittedTable(
        Column(heading="Option"),
        Column(heading="Spacing (mm)", rank=2),
        Column(heading="Patch"),
        Column(heading="Batch", kind="number", rank=1),
        Column(heading="Channels", rank=3),
        Column(heading="Weights", kind="number", rank=4),
        Column(heading="GB", kind="number"),
        title="Effect of other options",
    )
    for option, other in {"as planned": plan, **alternative_plans(facts, options)}.items():
        table.add(
            option,
            spacing(other.preprocessing.spacing),
            sizes(other.patch_size),
            str(other.batch_size),
            f"{other.network.channels[0]}–{other.network.channels[-1]}",
            f"{count_parameters(other.network) / 1e6:.1f} M",
            f"{estimate_gb(other, options.machine, options.trained_in):.1f}",
        )
    return table


def transfer_table(transfer: Transfer, source: str) -> FittedTable:
    """Which of another model's weights were loaded and which were not, part by part."""
    origin = f" ({transfer.origin})" if transfer.origin else ""
    unused = f"; {transfer.unused} tensors of the file are unused" if transfer.unused else ""
    title = f"Starting from {source}{origin}: {transfer.loaded} of {transfer.total} tensors{unused}"
    table = FittedTable(
        Column(heading="Part"),
        *(Column(heading=name, kind="number") for name in ("Loaded", "Adapted", "New")),
        Column(heading="Reason", kind="text"),
        title=title,
    )
    for row in transfer.rows:
        table.add(row.part, str(row.loaded), str(row.adapted), str(row.new), row.reason)
    return table
