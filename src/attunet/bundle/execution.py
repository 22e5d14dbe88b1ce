"""How a model folder is run: engine.json of the folder; of each fold, air.json (windows that are skipped) and int8.json
(whether there is a graph in 8-bit integers, and what it is worth)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from attunet.bundle.manifest import read_fold_settings, read_sealed, write_unsealed
from attunet.config import Settings

__all__ = [
    "AIR",
    "ENGINE_FILES",
    "EXECUTION",
    "INT8_FILES",
    "INT8_GRAPH",
    "Air",
    "Execution",
    "Int8",
    "Quantization",
    "common_air_level",
    "load_air",
    "load_execution",
    "load_int8",
    "write_air",
    "write_execution",
    "write_int8",
]

EXECUTION = "engine.json"
AIR = "air.json"
INT8_GRAPH = "int8.xml"
INT8_FILES = (INT8_GRAPH, "int8.bin", "int8.json")
"""The graph of a fold in 8-bit integers with its weights, and how it was audited; a fold may have none of them."""

ENGINE_FILES: Mapping[str, tuple[str, ...]] = {
    "openvino": ("graph.xml", "graph.bin"),
    "onnxruntime": ("model.onnx",),
    "torch": ("weights.safetensors",),
    "torch program": ("model.pt2",),
}
"""The files that each engine needs in a fold."""


class Quantization(Settings):
    """The result of quantization to 8-bit integers."""

    kept: bool = Field(description="Whether the graph in 8-bit integers is accurate enough to be used.")
    dice_before: float = Field(ge=0, le=1, description="Mean Dice of the validation cases before quantization.")
    dice_after: float = Field(ge=0, le=1, description="Mean Dice of the same cases with 8-bit integers.")
    cases: int = Field(
        ge=1, le=10**9, description="Number of validation cases, each evaluated by the fold that held it out."
    )
    patches: int = Field(ge=1, le=10**9, description="Training patches per fold that set the ranges of the integers.")
    low: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Lower end of the 95% interval of the mean change over the cases; null for one case.",
    )
    high: float | None = Field(None, ge=-1, le=1, description="Upper end of that interval.")


class Execution(Settings):
    """Which engine runs the folds of a model folder; written as engine.json by an export or a benchmark."""

    engine: Literal["openvino", "onnxruntime", "torch", "torch program"] = Field(
        "openvino", description="Engine on the CPU; torch uses the weights, torch program an exported program."
    )
    precision: Literal["auto", "bf16", "fp32", "int8"] = Field(
        "auto",
        description="auto: 8-bit integers where every fold has them, they are faster, and the CPU computes them "
        "natively; otherwise bf16 where the CPU and the engine support it, otherwise fp32: models are portable.",
    )
    tensors: dict[str, tuple[Annotated[int, Field(ge=1, le=2**31 - 1)] | str, ...]] = Field(
        default_factory=dict,
        description="Name to shape of the network's input (image) and outputs; a string means any size.",
    )
    quantization: Quantization | None = Field(
        None, description="Results of 8-bit quantization; null when it was not tried."
    )
    reasons: dict[str, str] = Field(
        default_factory=dict, description="Where the graph comes from, and how accurate it is."
    )


def load_execution(root: Path, sums: Mapping[str, str]) -> Execution | None:
    """Read engine.json; None when it does not exist. Raises: BundleError when the manifest lacks it."""
    remedy = "delete it, or recreate it with `attunet benchmark --write`"
    return read_sealed(Execution, root, EXECUTION, sums, remedy=remedy)


def write_execution(execution: Execution, root: Path) -> None:
    """Write engine.json and do not update the manifest."""
    write_unsealed(execution, root / EXECUTION)


class Air(Settings):
    """Windows that contain only air and are skipped, with the audit on validation cases that allows it."""

    used: bool = Field(
        description="Whether predictions skip windows that contain only air: only when no labelled voxel was lost."
    )
    level: float = Field(
        ge=0,
        le=1e30,
        description="Threshold: a prepared window contains only air when no voxel exceeds the image's minimum by more.",
    )
    cases: int = Field(
        ge=0, le=10**9, description="Labelled validation cases that were segmented with and without such windows."
    )
    windows: int = Field(ge=0, le=10**12, description="Windows of these cases.")
    skipped: int = Field(ge=0, le=10**12, description="Windows of these cases that contain only air.")
    lost: int = Field(
        ge=0, le=10**12, description="Labelled voxels that were segmented with all windows, but not without these."
    )


def write_air(air: Air, folder: Path) -> None:
    """Write air.json next to the weights; the run's manifest must be updated afterwards."""
    write_unsealed(air, folder / AIR)


def load_air(folder: Path, sums: Mapping[str, str] | None = None) -> Air | None:
    """Read air.json of a fold; None when it does not exist.

    Args: the fold's folder; the manifest of its run, None to read it.
    Raises: BundleError when the manifest lacks it.
    """
    return read_fold_settings(Air, folder, AIR, sums, remedy="delete it to run every window")


class Int8(Settings):
    """Whether a fold has a graph in 8-bit integers, which is kept beside the other one, and what it is worth."""

    kept: bool = Field(description="Whether the fold has such a graph: only when the Dice hardly falls.")
    reason: str = Field(description="Why it was kept, rejected, or not built.")
    quantization: Quantization | None = Field(
        None, description="Its Dice on the fold's validation cases; null when it was not built."
    )
    speedup: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="Time of the other graph divided by its time on the same windows, in turns, on the machine that "
        "trained the fold (median).",
    )
    compared_with: str = Field("", description="The engine of the other graph.")


def write_int8(int8: Int8, folder: Path) -> None:
    """Write int8.json next to the weights; the run's manifest must be updated afterwards."""
    write_unsealed(int8, folder / INT8_FILES[-1])


def load_int8(folder: Path, sums: Mapping[str, str] | None = None) -> Int8 | None:
    """Read int8.json of a fold; None when it does not exist.

    Args: the fold's folder; the manifest of its run, None to read it.
    Raises: BundleError when the manifest lacks it.
    """
    remedy = f"delete the {', '.join(INT8_FILES)} of this fold to predict without 8-bit integers"
    return read_fold_settings(Int8, folder, INT8_FILES[-1], sums, remedy=remedy)


def common_air_level(folds: Iterable[Air | None]) -> float | None:
    """The threshold below which all folds agree that a window contains only air; None when a fold has no threshold."""
    known = list(folds)
    levels = [air.level for air in known if air is not None and air.used]
    return min(levels) if levels and len(levels) == len(known) else None
