"""`attunet convert`: weights of another project's Attention U-Net as a model folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attunet.cli.console import notes
from attunet.cli.options import parse_labels, parse_numbers, require_training
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from attunet.config import Plan

__all__ = ["convert"]


def convert(
    weights: Annotated[Path, typer.Argument(help="A .safetensors file, or a .pth, .pt or .pkl file of plain weights.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MODEL", help="Model folder to write.")],
    labels: Annotated[
        str | None,
        typer.Option(help='Foreground labels in the order of the outputs, such as "liver=1,spleen=2".'),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(metavar="X,Y,Z", help="Voxel size of its training images in mm. [default: 1 for 2-D, 2 for 3-D]"),
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(metavar="I,J[,K]", help="Window size for prediction. [default: 256,256 or 160,160,96]"),
    ] = None,
    normalization: Annotated[
        Literal["zscore", "none"], typer.Option(help="Normalization of its training images.")
    ] = "zscore",
    double_sigmoid: Annotated[
        bool | None,
        typer.Option(
            "--double-sigmoid/--single-sigmoid",
            help="Apply the gates' sigmoid twice or once. [default: as in the recognised original]",
        ),
    ] = None,
) -> None:
    """Convert the weights of a known Attention U-Net into a model folder for predict and explain.

    Recognised by keys and shapes: the tutorial listing (either upsampling), its popular single-sigmoid variant, and the
    paper's released networks (single, multi, without gates). Code pickled in a checkpoint is never run.
    """
    require_training()
    from attunet.export.foreign import ForeignInput, convert_weights
    from attunet.files import refuse_existing

    refuse_existing(output)
    named = {name: value for name, value in (parse_labels(labels) or {}).items() if isinstance(value, int)}
    if labels and len(named) != len(labels.split(",")):
        raise ConfigError(f"convert got --labels {labels!r}, expected one value for each", hint="write NAME=VALUE")
    given = ForeignInput(
        labels={"background": 0, **named} if named else None,
        spacing=parse_numbers(spacing, "--spacing", float),
        patch=parse_numbers(patch, "--patch", int),
        normalization=normalization,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        plan = convert_weights(weights, output, given, double_sigmoid=double_sigmoid)
    for text in sorted({str(entry.message) for entry in caught if entry.category is UserWarning}):
        notes().print(text, style="yellow", soft_wrap=True)
    if assumed := _assumed(plan, labels=labels, spacing=spacing, patch=patch):
        text = f"assumed, because weights do not contain it: {assumed}; with wrong values the masks are wrong"
        notes().print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
    network = plan.network
    notes().print(
        f"recognised: {plan.preset}, {network.spatial_dims}-D, gate {network.gate or 'none'}, "
        f"channels {network.channels}; model: {output}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _assumed(plan: Plan, *, labels: str | None, spacing: str | None, patch: str | None) -> str:
    """The properties of the images that were not given, and the values assumed for them."""
    sizes, steps = (
        "×".join(f"{value:g}" for value in triple) for triple in (plan.patch_size, plan.preprocessing.spacing)
    )
    given = {
        f"--spacing {steps} mm": spacing,
        f"--patch {sizes}": patch,
        f"--labels {', '.join(plan.foreground)}": labels,
    }
    return "; ".join(text for text, value in given.items() if value is None)
