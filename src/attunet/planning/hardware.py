"""What the machine at hand can train: the default of the size dial. Asks the driver, not torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Literal

__all__ = ["auto_size", "gpu_memory_gb"]


def auto_size(device: str = "auto") -> tuple[Literal["small", "base", "large"], str]:
    """The size for a device (auto, cpu or cuda), and why."""
    memory = 0.0 if device == "cpu" else gpu_memory_gb()
    if memory >= 36:
        return "large", f"chosen for a GPU with {memory:.0f} GB"
    if memory > 0:
        return "base", f"chosen for a GPU with {memory:.0f} GB"
    return "small", f"chosen for training on {os.cpu_count()} CPU cores; --size base is meant for a GPU"


def gpu_memory_gb() -> float:
    """Memory of the largest NVIDIA GPU in GB; 0 without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0.0
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        return max(float(line) for line in answer.split()) / 1024
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0.0
