"""Options of `attunet predict`: what is read, how it is predicted, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "AllWindowsOption",
    "AttentionOption",
    "ContinueOption",
    "DisableTtaOption",
    "DryRunOption",
    "FoldsOption",
    "InputOption",
    "MaxMemoryOption",
    "ModelOption",
    "OutputOption",
    "PrecisionOption",
    "PreviewOption",
    "ProbabilitiesOption",
    "ReportOption",
    "StatisticsOption",
    "StepSizeOption",
    "TimeLimitOption",
    "TtaOption",
]

ModelOption = Annotated[
    Path,
    typer.Option("-m", "--model", metavar="RUN", help="Model folder made by `attunet train` or `attunet select`."),
]
InputOption = Annotated[
    list[str],
    typer.Option(
        "-i",
        "--input",
        metavar="PATH",
        help="Image, folder of images or DICOM, table of paths (.csv, .parquet), a URL of one (s3://, gs://, "
        "https://), or dicomweb://host/path/studies/UID; repeat for more.",
    ),
]
OutputOption = Annotated[
    str, typer.Option("-o", "--output", metavar="DIR", help="Folder for the masks, or such as s3://bucket/prefix.")
]
FoldsOption = Annotated[
    str,
    typer.Option(
        help="Folds whose probabilities are averaged: numbers such as 0 or 0,2; all; or auto, as the model decided."
    ),
]
TtaOption = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(help="Average over mirrored copies (test-time augmentation); auto: as the model decided, or on."),
]
DisableTtaOption = Annotated[bool, typer.Option("--disable-tta", help="The same as --tta off.")]
StepSizeOption = Annotated[
    float, typer.Option(min=0.05, max=1.0, help="Step between windows, as a fraction of the patch.")
]
ProbabilitiesOption = Annotated[
    bool,
    typer.Option(
        "--save-probabilities",
        help="Write DIR/probabilities: a channel per label or region; beside dicom-seg a fractional segmentation.",
    ),
]
AttentionOption = Annotated[
    bool, typer.Option("--attention", help="Write DIR/attention: each gate's coefficients on the image grid.")
]
StatisticsOption = Annotated[
    bool,
    typer.Option(
        "--statistics", help="Print volumes in ml and predicted Dice with their intervals; write statistics.json."
    ),
]
PreviewOption = Annotated[bool, typer.Option("--preview", help="Draw DIR/preview: a PNG for each case.")]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write a JSON record of the run, with the places where attention and mask disagree."
    ),
]
ContinueOption = Annotated[bool, typer.Option("--continue-prediction", help="Skip cases that already have a mask.")]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="GB",
        help="Memory limit of predictions, such as 4GB; slower if necessary. Writing DICOM objects is outside it.",
    ),
]
TimeLimitOption = Annotated[
    str | None,
    typer.Option(
        "--time-limit", metavar="TIME", help="Time limit per case, such as 30s; uses fewer windows if necessary."
    ),
]
AllWindowsOption = Annotated[
    bool,
    typer.Option("--all-windows", help="Run every window, also far from what the localizer found, and in air."),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Only read and preprocess the cases, and estimate windows and peak memory."),
]
PrecisionOption = Annotated[
    Literal["auto", "bf16", "fp32", "int8"],
    typer.Option(
        help="auto: 8-bit integers where the model has them and they were faster, else bf16 if the CPU has it."
    ),
]
