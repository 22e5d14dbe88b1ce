"""engine.json: what a model folder is computed with, when it is not the graph that every training leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from attunet.bundle.sealed import read_sealed, write_unsealed
from attunet.config import Settings

__all__ = ["ENGINE_FILES", "EXECUTION", "Execution", "Quantization", "load_execution", "write_execution"]

EXECUTION = "engine.json"

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
    cases: int = Field(ge=1, description="Validation cases, each judged by the fold that has not been trained on it.")
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
