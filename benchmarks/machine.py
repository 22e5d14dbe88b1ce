"""Describes the machine and the package versions of a measurement."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["cores", "describe", "gpu"]

PACKAGES = ("attunet", "torch", "openvino", "onnxruntime", "monai", "nibabel", "numpy")
# The CPU features that determine the speed of convolutions, with their usual names.
FEATURES = {
    "amx_bf16": "AMX bf16",
    "avx512_bf16": "AVX-512 bf16",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "asimd": "NEON",
}


def describe() -> dict[str, str]:
    """Processor, cores, instruction sets, memory, GPU and versions; nothing that identifies the individual machine."""
    facts = _cpu_facts()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    features = [name for flag, name in FEATURES.items() if flag in flags]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "family": " ".join(facts[key] for key in ("cpu family", "model") if key in facts),
        "cores": str(cores()),
        "features": ", ".join(features) or "unknown",
        "memory": f"{pages / 1024**3:.0f} GB",
        "gpu": gpu() or "none",
        "system": f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}",
        "versions": ", ".join(_versions()),
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu() -> str:
    """Name of the CUDA device, empty if there is none; imports torch only where a driver is present."""
    if not Path("/proc/driver/nvidia/version").exists():
        return ""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def _cpu_facts() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _colon, value in pairs}


def _versions() -> list[str]:
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return versions
