"""`attunet export`: a trained run for another runtime, or as a MONAI Bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attunet.cli.console import fail, notes, progress_bar
from attunet.cli.options import parse_folds, require_packages
from attunet.errors import ConfigError

if TYPE_CHECKING:
    from attunet.export.formats import Format
    from attunet.export.package import Exported

__all__ = ["export"]


def export(
    model: Annotated[
        Path,
        typer.Option(
            "-m", "--model", metavar="RUN", help="Model folder made by `attunet train`, `select` or `convert`."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write.")],
    format: Annotated[
        Literal["openvino", "onnx", "torch", "monai"],
        typer.Option(
            help="openvino, onnx: for prediction without torch; torch: a program that needs only torch; monai: a "
            "bundle for MONAI's `bundle run`."
        ),
    ] = "openvino",
    fold: Annotated[str, typer.Option(help="Folds to export, such as 0 or 0,2, or all.")] = "all",
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Quantize to 8-bit integers (openvino), unless the mean Dice of the validation cases drops by 0.002.",
        ),
    ] = False,
) -> None:
    """Write the networks with their plan for another runtime; `attunet predict -m DIR` runs all but the MONAI Bundle.

    Every graph is first compared with torch in fp32; one that differs is not written. Exit code 1 when 8-bit integers
    were requested and rejected, or a case could not be used to evaluate them.
    """
    require_packages("exporting", "torch")
    if format == "monai":
        if int8:
            raise ConfigError("8-bit integers are available for openvino, not for monai", hint="add --format openvino")
        from attunet.export.monai_bundle import export_monai

        differences = export_monai(model, output, folds=parse_folds(fold))
        _print(f"MONAI Bundle: {output}; how to run it: {output / 'docs' / 'README.md'}")
        for text in differences:
            _print(f"differs from attunet predict: {text}")
        return
    made = _run(model, output, format, fold, int8)
    for member, exported in made.items():
        _print_exported(f"{member}: " if member else "", exported)
    _print(f"exported: {output}")
    for case, reason in {case: why for exported in made.values() for case, why in exported.failed.items()}.items():
        fail(f"{case} could not be used, and counts nowhere: {reason}")
    if any(exported.failed or (exported.quantization and not exported.quantization.kept) for exported in made.values()):
        raise typer.Exit(1)


def _run(model: Path, output: Path, format: Format, fold: str, int8: bool) -> dict[str, Exported]:
    from attunet.export.package import export_model

    with progress_bar() as progress:
        task = progress.add_task(f"export {format}", total=None)

        def advance() -> None:
            progress.advance(task)

        return export_model(model, output, format, folds=parse_folds(fold), int8=int8, advance=advance)


def _print_exported(member: str, made: Exported) -> None:
    for fold, difference in made.differences.items():
        _print(f"{member}{fold}: differs from torch in fp32 by {difference:.1g} of the largest logit")
    if made.quantization is not None:
        tried = made.quantization
        scores = (
            f"mean Dice {tried.dice_before:.4f} before, {tried.dice_after:.4f} after ({tried.cases} held-out cases)"
        )
        decision = "8-bit integers" if tried.kept else "8-bit integers rejected; the original graph is used"
        text = f"{member}{decision}: {scores}"
        notes().print(text, style=None if tried.kept else "yellow", markup=False, soft_wrap=True, highlight=False)


def _print(text: str) -> None:
    notes().print(text, markup=False, highlight=False, soft_wrap=True)
