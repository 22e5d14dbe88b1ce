"""How a model folder is computed: engine.json of the folder, and air.json of a fold (windows that are skipped)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from attunet.bundle.manifest import read_sealed, read_sums, write_unsealed
from attunet.config import Settings

__all__ = [
    "AIR",
    "ENGINE_FILES",
    "EXECUTION",
    "Air",
    "Execution",
    "Quantization",
    "common_air_level",
    "load_air",
    "load_execution",
    "write_air",
    "write_execution",
]

EXECUTION = "engine.json"
AIR = "air.json"

ENGINE_FILES: Mapping[str, tuple[str, ...]] = {
    "openvino": ("graph.xml", "graph.bin"),
    "onnxruntime": ("model.onnx",),
    "torch": ("weights.safetensors",),
    "torch program": ("model.pt2",),
}
"""What a fold must hold to be computed by each engine."""


class Quantization(Settings):
    """What became of an attempt to compute in 8-bit integers."""

    kept: bool = Field(description="Whether the graphs of this folder compute in 8-bit integers.")
    dice_before: float = Field(description="Mean Dice of the validation cases before.")
    dice_after: float = Field(description="The same cases, with the network in 8-bit integers.")
    cases: int = Field(ge=1, description="Validation cases, each evaluated by the fold that was not trained on it.")
    patches: int = Field(ge=1, description="Training patches of each fold that set the ranges of the numbers.")


class Execution(Settings):
    """How the folds of a model folder are computed; written as engine.json by an export, or by a benchmark."""

    engine: Literal["openvino", "onnxruntime", "torch", "torch program"] = Field(
        "openvino", description="What computes on the CPU; torch takes the weights, torch program an exported program."
    )
    precision: Literal["auto", "fp32"] = Field(
        "auto", description="auto: bf16 where CPU and engine have it, fp32 elsewhere; so a model may move."
    )
    tensors: dict[str, tuple[int | str, ...]] = Field(
        default_factory=dict,
        description="Name to shape of the network's input (image) and outputs; a word is any size.",
    )
    quantization: Quantization | None = Field(None, description="Set when 8-bit integers were tried.")
    reasons: dict[str, str] = Field(default_factory=dict, description="Where it comes from, and how exact it is.")


def load_execution(root: Path, sums: Mapping[str, str]) -> Execution | None:
    """What engine.json holds; None when there is none. Raises: BundleError when the manifest lacks it."""
    remedy = "remove it, or make it again with `attunet benchmark --write`"
    return read_sealed(Execution, root, EXECUTION, sums, remedy=remedy)


def write_execution(execution: Execution, root: Path) -> None:
    """Write engine.json and leave the manifest as it is."""
    write_unsealed(execution, root / EXECUTION)


class Air(Settings):
    """Windows that contain only air and are skipped, with the audit on validation cases that allows it."""

    used: bool = Field(
        description="Whether predictions skip windows that contain only air: only when no labelled voxel was lost."
    )
    level: float = Field(
        ge=0,
        description="Threshold: a prepared window contains only air when no voxel exceeds the image's minimum by more.",
    )
    cases: int = Field(ge=0, description="Labelled validation cases that were segmented with and without such windows.")
    windows: int = Field(ge=0, description="Windows of these cases.")
    skipped: int = Field(ge=0, description="Those of them that contain only air.")
    lost: int = Field(ge=0, description="Labelled voxels that were segmented with all windows, but not without these.")


def write_air(air: Air, folder: Path) -> None:
    """Write air.json beside the weights; the run's manifest must be renewed."""
    write_unsealed(air, folder / AIR)


def load_air(folder: Path) -> Air | None:
    """What air.json holds; None when there is none. Raises: BundleError when the manifest lacks it."""
    if not (folder / AIR).is_file():  # then no manifest is needed, either
        return None
    remedy = "remove it: every window is run then"
    return read_sealed(Air, folder.parent, f"{folder.name}/{AIR}", read_sums(folder.parent), remedy=remedy)


def common_air_level(folders: Iterable[Path]) -> float | None:
    """The threshold up to which all folds agree that a window contains only air; None when one has none.

    Raises: BundleError as `load_air`.
    """
    known = [load_air(folder) for folder in folders]
    levels = [air.level for air in known if air is not None and air.used]
    return min(levels) if levels and len(levels) == len(known) else None
