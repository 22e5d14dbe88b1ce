"""What runs the network: OpenVINO, ONNX Runtime or torch on the CPU, torch on a GPU. One interface, one result."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from attunet.bundle import Execution, FoldFiles
from attunet.config import Plan
from attunet.errors import ConfigError, EngineError

__all__ = [
    "DEVICES",
    "Engine",
    "EngineOutput",
    "available_devices",
    "cpu_engine",
    "cuda_available",
    "make_engine",
    "window_shape",
]

Floats = npt.NDArray[np.float32]
DEVICES = ("auto", "cpu", "cuda")


class EngineOutput(NamedTuple):
    """Logits (B, classes, *patch) and attention by gate (B, maps, *level grid) in [0, 1]."""

    logits: Floats
    attention: dict[str, Floats]


class Engine(Protocol):
    """Runs one fold's network on a batch of patches."""

    name: str
    batch: int

    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        """Patches (B, C, *patch), B at most `batch`.

        Args: attention takes the place of the coefficients of the gates that it names, before they scale the skip, and
            is returned as theirs: (B, maps, *level grid) as in `EngineOutput`.
        Raises: DataError for an unknown gate or another shape, EngineError when a gate cannot be told.
        """
        ...


def available_devices() -> dict[str, str]:
    """Each usable device and what it is; the torch ones only when torch is installed."""
    from attunet.inference.engines.openvino_engine import cpu_precision

    devices = {"cpu": f"openvino, {cpu_precision()}"}
    if cuda_available():
        import torch

        devices["cuda"] = f"torch, {torch.cuda.get_device_name(0)}"
    return devices


def make_engine(
    fold: FoldFiles, plan: Plan, device: str = "auto", *, batch: int = 2, shuffle: int | None = None
) -> Engine:
    """The engine for a fold on a device: auto takes CUDA where there is one and the fold has weights, else the CPU.

    Args: fold, plan and device; windows in one call; a seed by which the weights are permuted within each layer, for
        a network that has learnt nothing (Adebayo et al. 2018, arXiv:1810.03292, test attention maps against it).
    Raises: EngineError when the device is not there, or cannot compute this fold; ConfigError for an unknown one.
    """
    if device not in DEVICES:
        raise ConfigError(f"device {device!r} is unknown", hint=f"choose one of {', '.join(DEVICES)}")
    if device == "cuda" and not cuda_available():
        raise EngineError(
            "no CUDA device can be used here",
            hint="use --device cpu, or install a CUDA build of torch with attunet[train]",
        )
    weighted = fold.weights.is_file()
    if device == "cuda" and not weighted:
        raise EngineError(
            f"{fold.folder} was exported for {fold.execution.engine}, without weights for a GPU",
            hint="use --device cpu, or the trained run itself",
        )
    if weighted and device != "cpu" and cuda_available():
        from attunet.inference.engines.torch_engine import TorchEngine

        return TorchEngine(fold.weights, plan.network, device="cuda", batch=max(batch, 4), shuffle=shuffle)
    return cpu_engine(fold, plan, fold.execution, batch=batch, shuffle=shuffle)


def cpu_engine(fold: FoldFiles, plan: Plan, how: Execution, *, batch: int = 2, shuffle: int | None = None) -> Engine:
    """The CPU engine of a fold that is asked for, whatever its folder names.

    Raises: BundleError and EngineError as the engines; EngineError when one cannot shuffle its weights.
    """
    shape = window_shape(plan)
    if how.engine == "torch":
        if find_spec("torch") is None:
            raise EngineError(
                f"{fold.folder} is to be computed by torch, which is not installed",
                hint="install it, or choose another engine with `attunet benchmark --write`",
            )
        from attunet.inference.engines.openvino_engine import cpu_precision
        from attunet.inference.engines.torch_engine import TorchEngine

        half = how.precision == "auto" and cpu_precision() == "bf16"
        return TorchEngine(fold.weights, plan.network, device="cpu", batch=batch, low_precision=half, shuffle=shuffle)
    if how.engine == "torch program":
        from attunet.inference.engines.program_engine import ProgramEngine

        if shuffle is not None:
            raise EngineError("a torch program cannot shuffle its weights", hint="use the trained run itself")
        return ProgramEngine(fold.program, batch=batch)
    if how.engine == "onnxruntime" and shuffle is None:
        from attunet.inference.engines.onnx_engine import ONNXEngine

        return ONNXEngine(fold.onnx, shape, batch=batch)
    from attunet.inference.engines.openvino_engine import OpenVINOEngine

    graph = fold.onnx if how.engine == "onnxruntime" else fold.graph  # OpenVINO reads both
    return OpenVINOEngine(graph, shape, batch=batch, precision=how.precision, shuffle=shuffle)


def window_shape(plan: Plan) -> tuple[int, ...]:
    """(C, *patch) of what the plan's networks are fed, without the last axis for 2-D ones."""
    return (plan.network.in_channels, *plan.patch_size[: plan.network.spatial_dims])


def cuda_available() -> bool:
    """Asks torch only where a driver is present, so that machines without a GPU never load it."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/dxg").exists():
        return False
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
