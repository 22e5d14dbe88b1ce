"""The network as an OpenVINO graph: named outputs for the logits and for every gate's attention."""

from __future__ import annotations

import warnings
from pathlib import Path

import openvino as ov
import torch
from torch import Tensor, nn

from attunet.config import Plan
from attunet.export.outputs import NamedOutputs, check_parity, example_of, ready
from attunet.export.telemetry import keep_to_ourselves
from attunet.files import staged
from attunet.inference.engines.engine import window_shape
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.nn import AttentionUNet

__all__ = ["export_openvino"]


class _Flat(nn.Module):
    """Its outputs as a tuple, which is what the converter keeps in order."""

    def __init__(self, network: AttentionUNet) -> None:
        super().__init__()
        self.named = NamedOutputs(network)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named(image).values())


def export_openvino(network: AttentionUNet, plan: Plan, path: Path) -> float:
    """Write graph.xml and graph.bin for patches of the plan's size, any batch size.

    Args: the trained network (left on the CPU, in eval mode), its plan, the path of the .xml.
    Returns: the largest difference of logits and attention from torch in fp32, relative to their scale.
    Raises: TrainingError when the graph does not compute what the network computes; nothing is written then.
    """
    keep_to_ourselves()
    network = ready(network)
    shape = window_shape(plan)
    example = example_of(plan)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of sizes that become constants: they are meant to
        names = list(NamedOutputs(network)(example))
        model = ov.convert_model(_Flat(network), example_input=example, input=[-1, *shape])
    for port, name in zip(model.outputs, names, strict=True):
        port.get_tensor().set_names({name})
    with staged(path) as graph:
        ov.save_model(model, graph, compress_to_fp16=False)
        return check_parity(network, plan, OpenVINOEngine(graph, shape, precision="fp32"))
