"""The network as a program of torch.export: model.pt2, and the source of ONNX graphs."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.export import Dim, ExportedProgram

from attunet.config import Plan
from attunet.export.outputs import TOLERANCE, NamedOutputs, check_parity, example_input, prepare_for_export
from attunet.files import staged
from attunet.inference.engines.protocol import EngineOutput, window_shape
from attunet.nn import AttentionUNet

__all__ = ["as_program", "export_program", "quiet_loggers", "supports_any_size"]

Floats = npt.NDArray[np.float32]


def export_program(network: AttentionUNet, plan: Plan, path: Path, *, tolerance: float = TOLERANCE) -> float:
    """Write model.pt2: (B, C, *spatial) to a dictionary of logits and attention by gate. It needs only torch.

    attunet itself reads only its weights (`read_program`): loading a program of a stranger may run their code.

    Args:
        network: the trained network; left on the CPU, in eval mode.
        plan: its plan.
        path: the file.
        tolerance: as of `check_parity`.
    Returns: the largest difference of logits and attention from the network, relative to their scale.
    Raises: TrainingError when the program's outputs differ from the network's; nothing is written then.
    """
    network = prepare_for_export(network)
    with staged(path) as stage:
        content = io.BytesIO()  # torch aborts the process when the disk is full
        torch.export.save(as_program(network, plan), content)
        stage.write_bytes(content.getvalue())
        return check_parity(network, plan, _Program(stage), tolerance=tolerance)


def as_program(network: AttentionUNet, plan: Plan) -> ExportedProgram:
    """The network traced for any batch size, and for any image size that its strides divide if the plan's patch is one.

    A patch that they do not divide is padded inside the network, which is then traced for that patch alone.
    """
    free: dict[int, object] = {0: Dim("batch")}
    strides = plan.network.total_strides[-1]
    if supports_any_size(plan):
        # At least two voxels at the deepest level: a single one would be padded to two, which is another program.
        free |= {axis: stride * Dim("ijk"[axis - 2], min=2) for axis, stride in enumerate(strides, start=2)}
    with warnings.catch_warnings(), quiet_loggers("torch.export"):
        warnings.simplefilter("ignore")
        program = torch.export.export(NamedOutputs(network), (example_input(plan, 2),), dynamic_shapes=(free,))
    for node in program.graph.nodes:  # they name the folders of this machine
        node.meta.pop("stack_trace", None)
    return program


def supports_any_size(plan: Plan) -> bool:
    """Whether exported programs take any size that the strides divide."""
    return all(
        size % stride == 0 and size >= 2 * stride
        for size, stride in zip(window_shape(plan)[1:], plan.network.total_strides[-1], strict=True)
    )


@contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Show only errors from these loggers: their warnings concern packages and layers that attunet does not use."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Program:
    """A program that this process has just written, as its users will load it; see `Engine`."""

    name = "torch program cpu fp32"
    batch = 2

    def __init__(self, path: Path) -> None:
        self._program = torch.export.load(path).module()

    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        with torch.inference_mode():
            outputs = self._program(torch.from_numpy(np.ascontiguousarray(patches, np.float32)))
        arrays = {name: tensor.float().numpy() for name, tensor in outputs.items()}
        return EngineOutput(arrays.pop("logits"), arrays)
