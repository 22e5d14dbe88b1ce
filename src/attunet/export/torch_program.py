"""The network as a program of torch.export: torch alone loads and runs it, whatever Python code built it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from attunet.config import Plan
from attunet.export.outputs import NamedOutputs, check_parity, example_of, ready
from attunet.export.telemetry import quiet
from attunet.files import staged
from attunet.inference.engines.engine import window_shape
from attunet.inference.engines.program_engine import ProgramEngine
from attunet.nn import AttentionUNet

__all__ = ["any_size", "as_program", "export_program"]


def export_program(network: AttentionUNet, plan: Plan, path: Path) -> float:
    """Write model.pt2: (B, C, *spatial) to a dictionary of logits and attention by gate.

    Args: the trained network (left on the CPU, in eval mode), its plan, the path.
    Returns: the largest difference of logits and attention from the network, relative to their scale.
    Raises: TrainingError when the program does not compute what the network computes; nothing is written then.
    """
    network = ready(network)
    with staged(path) as stage:
        torch.export.save(as_program(network, plan), stage)
        return check_parity(network, plan, ProgramEngine(stage))


def as_program(network: AttentionUNet, plan: Plan) -> ExportedProgram:
    """The network traced for any batch, and for any size that its strides divide where the plan's patch is one.

    A patch that they do not divide is padded inside the network, which is only traced for the patch itself.
    """
    free: dict[int, object] = {0: Dim("batch")}
    if any_size(plan):
        # From two voxels at the deepest level: of one, the network would make two, which is another program.
        free |= {
            axis: stride * Dim("ijk"[axis - 2], min=2)
            for axis, stride in enumerate(plan.network.total_strides[-1], start=2)
        }
    with warnings.catch_warnings(), quiet("torch.export"):
        warnings.simplefilter("ignore")
        return torch.export.export(NamedOutputs(network), (example_of(plan, 2),), dynamic_shapes=(free,))


def any_size(plan: Plan) -> bool:
    """Whether exported programs take any size that the strides divide."""
    return all(
        size % stride == 0 and size >= 2 * stride
        for size, stride in zip(window_shape(plan)[1:], plan.network.total_strides[-1], strict=True)
    )
