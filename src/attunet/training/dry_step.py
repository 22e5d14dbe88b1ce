"""How much memory a plan takes to train, seen in one step in a process of its own. Loads no torch itself."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

from attunet.config import Plan
from attunet.planning.hardware import Machine
from attunet.planning.memory import Measured, estimate_gb

__all__ = ["measure_step"]

_log = logging.getLogger(__name__)

_PROCESS = "attunet.training.dry_step_process"
_TIME_LIMIT = 60
_OUT_OF_MEMORY = ("OutOfMemoryError", "DefaultCPUAllocator", "MemoryError")
_KILLED = -9


def measure_step(plan: Plan, device: Machine) -> Measured:
    """Memory in GB of training this plan: weights, optimiser, averaged weights and one full step.

    On "cuda" the peak of what is allocated there, on "cpu" that of the whole process.
    Returns: infinity when memory ran out; the formula's estimate when the step could not be tried at all.
    """
    command = [sys.executable, "-m", _PROCESS, device]
    text = plan.model_dump_json()
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIME_LIMIT)
        if done.returncode == _KILLED or any(words in done.stderr for words in _OUT_OF_MEMORY):
            return Measured(float("inf"), 1.0)
        return Measured(**json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
        _log.info("the dry step failed: %s", error)
        return Measured(estimate_gb(plan, device), 0.0)
