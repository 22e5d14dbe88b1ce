"""What runs the network: OpenVINO on the CPU, torch on a GPU. One interface, one result."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from attunet.bundle import FoldFiles
from attunet.config import Plan
from attunet.errors import BundleError, ConfigError, EngineError

__all__ = ["DEVICES", "Engine", "EngineOutput", "OpenVINOEngine", "available_devices", "make_engine"]

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

    def __call__(self, patches: Floats) -> EngineOutput:
        """Patches (B, C, *patch), B at most `batch`."""
        ...


class OpenVINOEngine:
    """The network's OpenVINO graph on the CPU, in bf16 where the CPU has it; may be called from several threads.

    Args: graph.xml of a fold; the shape (C, *patch) it will be fed; windows in one call, each computed by its own share
        of the cores, for which they need not wait on each other window by window; arithmetic.
    Raises: BundleError when the graph cannot be read.
    """

    def __init__(self, graph: Path, shape: tuple[int, ...], *, batch: int = 2, precision: str = "auto") -> None:
        try:
            model = _core().read_model(graph)
            model.reshape([1, *shape])
        except RuntimeError as error:
            raise BundleError(
                f"{graph} cannot be read by OpenVINO: {_first_line(error)}", hint="export it again"
            ) from error
        self.precision = cpu_precision() if precision == "auto" else precision
        self.name = f"openvino cpu {self.precision}"
        self.batch = batch
        kind = {"bf16": "bf16", "fp32": "f32"}[self.precision]
        # Pinned threads would queue behind other programs on their core while another core is free.
        settings = {"INFERENCE_PRECISION_HINT": kind, "NUM_STREAMS": batch, "ENABLE_CPU_PINNING": False}
        self._compiled: Any = _core().compile_model(model, "CPU", settings)
        self._gates = [name for port in self._compiled.outputs for name in port.names if name.startswith("level")]
        self._own = threading.local()

    def __call__(self, patches: Floats) -> EngineOutput:
        """See `Engine`."""
        requests = self._requests()[: len(patches)]
        # Kept by name until the end: the requests read from them while they run.
        inputs = [np.ascontiguousarray(patch[None]) for patch in patches]
        for request, array in zip(requests, inputs, strict=True):
            request.start_async({0: array}, share_inputs=True)
        for request in requests:
            request.wait()
        attention = {name: _gathered(requests, name) for name in self._gates}
        return EngineOutput(_gathered(requests, "logits"), attention)

    def _requests(self) -> list[Any]:
        """As many as windows in one call, for each thread its own."""
        if not hasattr(self._own, "requests"):
            self._own.requests = [self._compiled.create_infer_request() for _ in range(self.batch)]
        return list(self._own.requests)


def _gathered(requests: list[Any], output: str) -> Floats:
    """One output of all requests, copied, as the next call writes over it."""
    return np.concatenate([np.asarray(request.get_tensor(output).data, np.float32) for request in requests])


def cpu_precision() -> str:
    """bf16 where the CPU computes it natively, fp32 elsewhere."""
    return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"


@cache
def _core() -> Any:
    """One for the process: each brings a signal stack and takes it along when it goes, so after two of them a Ctrl-C
    may be answered on memory that is gone.
    """
    import openvino as ov

    return ov.Core()


def available_devices() -> dict[str, str]:
    """Each usable device and what it is; the torch ones only when torch is installed."""
    devices = {"cpu": f"openvino, {cpu_precision()}"}
    if _cuda_available():
        import torch

        devices["cuda"] = f"torch, {torch.cuda.get_device_name(0)}"
    return devices


def make_engine(fold: FoldFiles, plan: Plan, device: str = "auto", *, batch: int = 2) -> Engine:
    """The engine for a fold on a device: auto takes CUDA where there is one, else the CPU.

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

        return TorchEngine(fold.weights, plan.network, device="cuda", batch=max(batch, 4))
    dims = plan.network.spatial_dims
    return OpenVINOEngine(fold.graph, (plan.network.in_channels, *plan.patch_size[:dims]), batch=batch)


def _cuda_available() -> bool:
    """Asks torch only where a driver is present, so that machines without a GPU never load it."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/dxg").exists():
        return False
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
