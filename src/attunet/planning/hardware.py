"""The capacity of this machine: the default size, and the memory. Queries the driver, not torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

__all__ = ["Machine", "MemoryLimit", "auto_size", "free_memory_gb", "gpu_memory_gb", "machine_of", "memory_limit"]

Machine = Literal["cpu", "cuda"]

_SHARE_OF_FREE = 0.8
_CGROUP = Path("/sys/fs/cgroup")
_GB = 1024**3


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
    return "small", f"chosen for training on {os.cpu_count()} CPU cores; --size base is meant for a GPU"


def machine_of(device: str) -> Machine:
    """The device on which training with auto, cpu or cuda will run."""
    return "cuda" if device == "cuda" or (device == "auto" and gpu_memory_gb() > 0) else "cpu"


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
