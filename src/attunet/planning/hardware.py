"""The capacity of this machine: the default size, the memory, and the precision. Queries the drivers, not torch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil

from attunet.data.slabs import cores
from attunet.forks import PerProcess

__all__ = [
    "Machine",
    "MemoryLimit",
    "Precision",
    "auto_size",
    "cpu_int8",
    "cpu_precision",
    "free_memory_gb",
    "gpu_memory_gb",
    "machine_of",
    "machine_precision",
    "memory_limit",
    "openvino_core",
]

Machine = Literal["cpu", "cuda"]
Precision = Literal["bf16", "fp32"]

_SHARE_OF_FREE = 0.8
_CGROUP = Path("/sys/fs/cgroup")
_GB = 1024**3
_CPU_FLAGS = Path("/proc/cpuinfo")
_INT8_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni")


class MemoryLimit(NamedTuple):
    """The memory that training may use.

    Args:
        gb: GB of 1024^3 bytes.
        device: the device.
        reason: the origin of the limit.
    """

    gb: float
    device: Machine
    reason: str


def auto_size(device: str = "auto") -> tuple[Literal["small", "base", "large"], str]:
    """The size for a device (auto, cpu or cuda), and why."""
    memory = 0.0 if device == "cpu" else gpu_memory_gb()
    if memory >= 36:
        return "large", f"chosen for a GPU with {memory:.0f} GB"
    if memory > 0:
        return "base", f"chosen for a GPU with {memory:.0f} GB"
    count = cores()
    counted = f"{count} CPU core{'s' if count > 1 else ''}"
    return "small", f"chosen for training on {counted}; --size base is meant for a GPU"


def machine_of(device: str) -> Machine:
    """The device on which training with auto, cpu or cuda will run."""
    return "cuda" if device == "cuda" or (device == "auto" and gpu_memory_gb() > 0) else "cpu"


def machine_precision(machine: Machine) -> Precision:
    """The fastest precision of training: bf16 on a GPU, and on a CPU that has it; others emulate it, 33 times slower.

    A GPU without bf16 is known to torch only; its plans have memory to spare.
    """
    return "bf16" if machine == "cuda" else cpu_precision()


def cpu_precision() -> Precision:
    """ "bf16" if the CPU supports it natively, else "fp32"."""
    return "bf16" if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"


def cpu_int8() -> str:
    """The instructions by which this CPU multiplies 8-bit integers (AMX, VNNI), without which they are no faster.

    Empty when it has none, or the system does not list them (OpenVINO claims 8-bit integers for every x86 CPU).
    """
    try:
        lines = _CPU_FLAGS.read_text().splitlines()
    except OSError:
        return ""
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return next((flag for flag in _INT8_FLAGS if flag in flags), "")


def openvino_core() -> Any:
    """The only core of the process.

    A core installs a signal stack and frees it when destroyed, so after a second one Ctrl-C may run on freed memory.
    """
    return _CORE.get()


def _make_core() -> Any:
    """A core. What OpenVINO sets up when it first sees an array is set up here, before threads begin: of two that get
    there together, one holds the interpreter's lock and waits for the other, which waits for that lock."""
    import openvino as ov

    ov.Type.f32.to_dtype()
    np.asarray(ov.Tensor(np.zeros(1, np.float32)).data)
    return ov.Core()


_CORE = PerProcess(_make_core)


def memory_limit(device: Machine, asked_gb: float | None = None) -> MemoryLimit:
    """The memory that the user allows, or most of the memory that is free now."""
    if asked_gb is not None:
        return MemoryLimit(asked_gb, device, "--memory")
    where = "the GPU" if device == "cuda" else "this machine"
    return MemoryLimit(
        _SHARE_OF_FREE * free_memory_gb(device), device, f"{_SHARE_OF_FREE:.0%} of what {where} has free"
    )


def gpu_memory_gb() -> float:
    """Memory of the largest NVIDIA GPU in GB; 0 without one."""
    return _query_driver("memory.total")


def free_memory_gb(device: Machine) -> float:
    """Memory in GB available to a new process.

    On a GPU, the free memory of the emptiest one; otherwise the memory that the system has available, or that the
    container still allows.
    """
    if device == "cuda":
        return _query_driver("memory.free") or float("inf")
    return min(float(psutil.virtual_memory().available) / _GB, _container_gb())


def _query_driver(fact: str) -> float:
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0.0
    query = [program, f"--query-gpu={fact}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        return max(float(line) for line in answer.split()) / 1024
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0.0


def _container_gb() -> float:
    """The remaining memory of a container (cgroup 2 or 1); its file cache counts as free."""
    for folder, limit, used in (
        (_CGROUP, "memory.max", "memory.current"),
        (_CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            taken = int((folder / used).read_text()) - int(facts.get("inactive_file", 0))
            return max(0, int((folder / limit).read_text()) - taken) / _GB
        except (OSError, ValueError):
            continue
    return float("inf")
