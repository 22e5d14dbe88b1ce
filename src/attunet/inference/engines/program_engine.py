"""The engine of an exported torch program: it needs only torch and builds no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attunet.errors import BundleError, EngineError
from attunet.inference.engines.protocol import EngineOutput

__all__ = ["ProgramEngine"]

Floats = npt.NDArray[np.float32]


class ProgramEngine:
    """model.pt2 of an exported folder, in fp32 on the CPU.

    Args:
        program: path of model.pt2.
        batch: number of windows per call.
    Raises: EngineError when torch is not installed, BundleError when the program cannot be read.
    """

    def __init__(self, program: Path, *, batch: int = 2) -> None:
        self._program = _load(program)
        self.batch = batch
        self.name = "torch program cpu fp32"

    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        """See `Engine`; cannot replace its attention: EngineError."""
        import torch

        if attention:
            raise EngineError("a torch program cannot replace its attention", hint="use the trained run")
        with torch.inference_mode():
            outputs = self._program(torch.from_numpy(np.ascontiguousarray(patches, np.float32)))
        arrays = {name: tensor.float().numpy() for name, tensor in outputs.items()}
        return EngineOutput(arrays.pop("logits"), arrays)


def _load(program: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise EngineError(
            f"{program} needs torch, which is not installed", hint="install torch, or export with --format openvino"
        ) from error
    try:
        return torch.export.load(program).module()
    except Exception as error:  # torch reads the file as an archive, JSON and tensors: each fails in its own way
        raise BundleError(f"{program} cannot be read by torch: {error}", hint="export it again") from error
