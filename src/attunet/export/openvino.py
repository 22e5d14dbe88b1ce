"""The network as an OpenVINO graph: named outputs for the logits and for every gate's attention."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

from attunet.config import Plan
from attunet.errors import TrainingError
from attunet.files import staged
from attunet.inference.openvino_engine import OpenVINOEngine
from attunet.inference.torch_engine import TorchEngine
from attunet.nn import AttentionUNet, in_layout

__all__ = ["export_openvino"]

_TOLERANCE = 1e-3


class _Outputs(nn.Module):
    """The network with a flat tuple of outputs: logits, then attention by gate."""

    def __init__(self, network: AttentionUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        result = self.network(image, detailed=True)
        return result.logits, *result.attention.values()


def export_openvino(network: AttentionUNet, plan: Plan, path: Path) -> float:
    """Write graph.xml and graph.bin for patches of the plan's size, any batch size.

    Args: the trained network (left on the CPU, in eval mode), its plan, the path of the .xml.
    Returns: the largest difference of logits and attention from torch in fp32, relative to their scale.
    Raises: TrainingError when the graph does not compute what the network computes; nothing is written then.
    """
    _keep_to_ourselves()
    network = in_layout(network.cpu().eval(), torch.contiguous_format)
    shape = (plan.network.in_channels, *plan.patch_size[: plan.network.spatial_dims])
    example = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of sizes that become constants: they are meant to
        names = ["logits", *network(example, detailed=True).attention]
        model = ov.convert_model(_Outputs(network), example_input=example, input=[-1, *shape])
    for port, name in zip(model.outputs, names, strict=True):
        port.get_tensor().set_names({name})
    with staged(path) as graph:
        ov.save_model(model, graph, compress_to_fp16=False)
        difference = _difference(network, graph, shape, example.numpy())
        if not difference < _TOLERANCE:
            raise TrainingError(
                f"the OpenVINO graph differs from the network by {difference:.2g} (allowed: {_TOLERANCE})",
                hint="report this with the plan.json; the weights are kept",
            )
    return difference


def _keep_to_ourselves() -> None:
    """OpenVINO's converter reports its use over the network, unasked; its own stand-in for that sends nothing."""
    from openvino.tools.ovc import telemetry_stub

    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.tools.ovc") and hasattr(module, "tm"):
            module.tm = telemetry_stub  # type: ignore[attr-defined]


def _difference(network: AttentionUNet, graph: Path, shape: tuple[int, ...], patch: np.ndarray) -> float:
    reference = TorchEngine(None, network, device="cpu", batch=1)(patch)
    result = OpenVINOEngine(graph, shape, precision="fp32")(patch)
    pairs = [(reference.logits, result.logits)]
    pairs += [(reference.attention[name], result.attention[name]) for name in reference.attention]
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in pairs)
