"""The network as an ONNX graph: for ONNX Runtime, and for whatever else reads ONNX."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

from attunet.config import Plan
from attunet.errors import EngineError
from attunet.export.outputs import NamedOutputs, check_parity, example_of, ready
from attunet.export.telemetry import quiet
from attunet.export.torch_program import as_program
from attunet.files import staged
from attunet.inference.engines.engine import window_shape
from attunet.inference.engines.onnx_engine import ONNXEngine
from attunet.nn import AttentionUNet

__all__ = ["export_onnx", "require_onnx"]


def export_onnx(network: AttentionUNet, plan: Plan, path: Path) -> float:
    """Write model.onnx, in one file: input `image`, outputs `logits` and one for each gate.

    Sizes are those of `as_program`.
    Args: the trained network (left on the CPU, in eval mode), its plan, the path.
    Returns: the largest difference of logits and attention from torch in fp32, relative to their scale.
    Raises: EngineError where a package is absent; TrainingError when the graph does not compute what the network
        computes; nothing is written then.
    """
    require_onnx()
    network = ready(network)
    with torch.inference_mode():
        names = list(NamedOutputs(network)(example_of(plan)))
    with staged(path) as stage:
        with warnings.catch_warnings(), quiet("torch.onnx", "onnxscript", "onnx_ir"):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                as_program(network, plan),
                f=stage,
                input_names=["image"],
                output_names=names,
                external_data=False,  # networks here are far below the 2 GiB that one file can hold
                verbose=False,
            )
        return check_parity(network, plan, ONNXEngine(stage, window_shape(plan), batch=1))


def require_onnx() -> None:
    """Raises: EngineError when the onnx extra is not installed."""
    if absent := [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]:
        raise EngineError(f"ONNX needs {', '.join(absent)}", hint='install them with: pip install "attunet[onnx]"')
