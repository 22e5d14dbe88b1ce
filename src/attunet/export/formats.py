"""The formats of exported networks: OpenVINO graphs, ONNX graphs and torch.export programs, all in one table.

Every file is compared with the network in fp32 before it appears. Its outputs are named: the logits and every
gate's attention.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

from attunet.config import Plan
from attunet.errors import EngineError
from attunet.export.outputs import (
    TOLERANCE,
    NamedOutputs,
    check_parity,
    example_input,
    prepare_for_export,
)
from attunet.export.program import as_program, export_program, quiet_loggers, supports_any_size
from attunet.files import staged
from attunet.inference.engines.onnx_engine import ONNXEngine
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.protocol import window_shape
from attunet.nn import AttentionUNet

__all__ = [
    "FORMATS",
    "ExportFormat",
    "Format",
    "export_onnx",
    "export_openvino",
]

Format = Literal["openvino", "onnx", "torch"]

_ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


class Writer(Protocol):
    """Writes a network to a file and returns its largest difference from torch in fp32, as `export_openvino`."""

    def __call__(self, network: AttentionUNet, plan: Plan, path: Path) -> float: ...


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """How a fold is written for one runtime.

    Args:
        engine: the engine that reads it, as engine.json names it.
        file: the file in each fold's folder.
        write: writes that file.
        packages: required packages besides the train extra.
        extra: the extra of attunet that installs them.
        any_size: whether input sizes stay dynamic, see `supports_any_size`.
        int8: whether its graphs can be quantized to 8-bit integers.
    """

    engine: Literal["openvino", "onnxruntime", "torch program"]
    file: str
    write: Writer
    packages: tuple[str, ...] = ()
    extra: str = "train"
    any_size: bool = True
    int8: bool = False

    def require(self) -> None:
        """Raises: EngineError when a package is not installed."""
        if absent := [name for name in self.packages if find_spec(name) is None]:
            hint = f'install them with: pip install "attunet[{self.extra}]"'
            raise EngineError(f"{self.engine} needs {', '.join(absent)}", hint=hint)


def export_openvino(network: AttentionUNet, plan: Plan, path: Path, *, tolerance: float = TOLERANCE) -> float:
    """Write graph.xml and graph.bin for patches of the plan's size, any batch size.

    Args:
        network: the trained network; left on the CPU, in eval mode.
        plan: its plan.
        path: the .xml.
        tolerance: as of `check_parity`.
    Returns: the largest difference of logits and attention from torch in fp32, relative to their scale.
    Raises: TrainingError when the graph's outputs differ from the network's; nothing is written then.
    """
    network = prepare_for_export(network)
    shape = window_shape(plan)
    example = example_input(plan)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of sizes that become constants, as they should
        names = list(NamedOutputs(network)(example))
        # What is written is checked below, so that the trace need not be.
        traced = torch.jit.trace(_OutputTuple(network), example, check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced, example_input=example, input=[-1, *shape])
    for port, name in zip(model.outputs, names, strict=True):
        port.get_tensor().set_names({name})
    with staged(path) as graph:
        ov.save_model(model, graph, compress_to_fp16=False)
        return check_parity(network, plan, OpenVINOEngine(graph, shape, precision="fp32"), tolerance=tolerance)


def export_onnx(network: AttentionUNet, plan: Plan, path: Path, *, tolerance: float = TOLERANCE) -> float:
    """Write model.onnx, in one file: input `image`, outputs `logits` and one for each gate; sizes as `as_program`.

    Args:
        network: the trained network; left on the CPU, in eval mode.
        plan: its plan.
        path: the file.
        tolerance: as of `check_parity`.
    Returns: the largest difference of logits and attention from torch in fp32, relative to their scale.
    Raises: EngineError when a package is missing; TrainingError when the graph's outputs differ from the network's;
        nothing is written then.
    """
    FORMATS["onnx"].require()
    network = prepare_for_export(network)
    with torch.inference_mode():
        names = list(NamedOutputs(network)(example_input(plan)))
    with staged(path) as stage:
        with warnings.catch_warnings(), quiet_loggers("torch.onnx", "onnxscript", "onnx_ir"):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                as_program(network, plan),
                f=stage,
                input_names=["image"],
                output_names=names,
                external_data=False,  # networks here are far below the 2 GiB that one file can hold
                verbose=False,
            )
        if supports_any_size(plan):
            _refuse_other_sizes(stage, plan)
        return check_parity(network, plan, ONNXEngine(stage, window_shape(plan), batch=1), tolerance=tolerance)


def _refuse_other_sizes(path: Path, plan: Plan) -> None:
    """Let a graph fail for sizes at which it is not the network, which ONNX itself cannot state.

    A shape with a negative edge is made of what is too much or too little, and an empty one otherwise, whose sum is 0.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    graph, strides = model.graph, plan.network.total_strides[-1]
    name = f"edges_are_multiples_of_{'x'.join(map(str, strides))}_and_at_least_twice_that"
    constants = {"strides": strides, "least": [2 * stride for stride in strides], "zero": [0] * len(strides)}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), f"{name}/{key}") for key, value in constants.items()
    )
    steps = [
        ("Shape", ["image"], "edges", {"start": 2}),
        ("Mod", ["edges", "strides"], "rest", {}),
        ("Sub", ["edges", "least"], "more", {}),
        ("Min", ["more", "zero"], "missing", {}),
        ("Sub", ["missing", "rest"], "shape", {}),
        ("ConstantOfShape", ["shape"], "nothing", {}),
        ("ReduceSum", ["nothing"], "sum", {"keepdims": 0}),
        ("Add", ["image", "sum"], "sized", {}),
    ]
    for node in graph.node:
        for place, source in enumerate(node.input):
            if source == "image":
                node.input[place] = f"{name}/sized"
    for place, (kind, inputs, output, settings) in enumerate(steps):
        sources = [source if source == "image" else f"{name}/{source}" for source in inputs]
        graph.node.insert(
            place, helper.make_node(kind, sources, [f"{name}/{output}"], name=f"{name}/{output}", **settings)
        )
    onnx.save(model, path)


class _OutputTuple(nn.Module):
    """The network with its outputs as a tuple, whose order OpenVINO's converter keeps."""

    def __init__(self, network: AttentionUNet) -> None:
        super().__init__()
        self.named = NamedOutputs(network)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(image).values())


FORMATS: dict[Format, ExportFormat] = {
    "openvino": ExportFormat(engine="openvino", file="graph.xml", write=export_openvino, any_size=False, int8=True),
    "onnx": ExportFormat(
        engine="onnxruntime", file="model.onnx", write=export_onnx, packages=_ONNX_PACKAGES, extra="onnx"
    ),
    "torch": ExportFormat(engine="torch program", file="model.pt2", write=export_program),
}
