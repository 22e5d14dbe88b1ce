"""What runs the network: OpenVINO on the CPU, torch on a GPU. One interface, one result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from attunet.bundle import FoldFiles
from attunet.config import Plan
from attunet.errors import ConfigError, EngineError

__all__ = ["DEVICES", "Engine", "EngineOutput", "available_devices", "make_engine"]

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
    from attunet.inference.openvino_engine import cpu_precision

    devices = {"cpu": f"openvino, {cpu_precision()}"}
    if _cuda_available():
        import torch

        devices["cuda"] = f"torch, {torch.cuda.get_device_name(0)}"
    return devices


def make_engine(
    fold: FoldFiles, plan: Plan, device: str = "auto", *, batch: int = 2, shuffle: int | None = None
) -> Engine:
    """The engine for a fold on a device: auto takes CUDA where there is one, else the CPU.

    Args: fold, plan and device; windows in one call; a seed by which the weights are permuted within each layer, for
        a network that has learnt nothing (Adebayo et al. 2018, arXiv:1810.03292, test attention maps against it).
    Raises: EngineError when the device is not there; ConfigError for an unknown one.
    """
    if device not in DEVICES:
        raise ConfigError(f"device {device!r} is unknown", hint=f"choose one of {', '.join(DEVICES)}")
    if device == "cuda" and not _cuda_available():
        raise EngineError(
            "no CUDA device can be used here",
            hint="use --device cpu, or install a CUDA build of torch with attunet[train]",
        )
    if device == "cuda" or (device == "auto" and _cuda_available()):
        from attunet.inference.torch_engine import TorchEngine

        return TorchEngine(fold.weights, plan.network, device="cuda", batch=max(batch, 4), shuffle=shuffle)
    from attunet.inference.openvino_engine import OpenVINOEngine

    shape = (plan.network.in_channels, *plan.patch_size[: plan.network.spatial_dims])
    return OpenVINOEngine(fold.graph, shape, batch=batch, shuffle=shuffle)


def _cuda_available() -> bool:
    """Asks torch only where a driver is present, so that machines without a GPU never load it."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/dxg").exists():
        return False
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
