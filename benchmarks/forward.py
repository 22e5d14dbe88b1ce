"""Forward passes of one window: torch with its options, ONNX Runtime, attunet's engines."""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from harness import Row, interleave
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attunet.bundle import fold_folder
from attunet.inference.engines.openvino_engine import OpenVINOEngine
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.nn import AttentionUNet
from attunet.planning.hardware import cpu_precision

__all__ = [
    "LAYOUTS",
    "PRECISION",
    "Forward",
    "Peer",
    "can_compile",
    "export_onnx",
    "gflop",
    "onnxruntime_forward",
    "openvino_forward",
    "openvino_graph",
    "quantize_on_noise",
    "rows",
    "to_channels_last",
    "torch_engine_forward",
    "torch_forward",
]

PRECISION = cpu_precision()
"""Precision of attunet's engine on this CPU."""

Floats = npt.NDArray[np.float32]
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The channels_last format by the number of axes of a tensor (B, C, *spatial)."""

Forward = Callable[[Floats], Floats]
"""Windows (B, C, *patch) to logits (B, classes, *patch), both in CPU memory."""


class Peer(NamedTuple):
    """A forward pass to measure, the GFLOP of one window, and the number of windows per call."""

    forward: Forward
    gflop: float
    batch_size: int = 1


def torch_forward(
    network: nn.Module, *, device: str = "cpu", bf16: bool = False, last: bool = False, compiled: bool = False
) -> Forward:
    """torch: eager or compiled, fp32 or autocast, contiguous or channels_last."""
    net = deepcopy(network).to(device).eval()
    if last:
        to_channels_last(net)
    run: Callable[[Tensor], Tensor] = torch.compile(net) if compiled else net

    @torch.inference_mode()
    def forward(windows: Floats) -> Floats:
        image = torch.from_numpy(windows).to(device)
        if last:
            image = image.to(memory_format=LAYOUTS[image.ndim])
        with _autocast(device, bf16):
            logits = run(image)
        return logits.float().cpu().numpy()

    return forward


def to_channels_last(network: nn.Module) -> None:
    """Convert the weights to channels_last, 2-D or 3-D."""
    for weight in network.parameters():
        if weight.ndim in LAYOUTS:
            weight.data = weight.data.contiguous(memory_format=LAYOUTS[weight.ndim])


def _autocast(device: str, on: bool) -> AbstractContextManager[object]:
    return torch.autocast(device, dtype=torch.bfloat16) if on else nullcontext()


def can_compile() -> bool:
    """Whether torch.compile finds a compiler for the CPU."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def export_onnx(network: nn.Module, shape: Sequence[int], path: Path) -> Path:
    """Export the network to ONNX for windows (1, C, *patch), with the output `logits`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns about torchvision, which is not needed here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(), (torch.zeros(1, *shape),), output_names=["logits"], dynamo=True, verbose=False
        )
    assert program is not None
    program.save(path)
    return path


def onnxruntime_forward(path: Path) -> Forward:
    """ONNX Runtime on the CPU, with its default settings and all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda windows: session.run(["logits"], {name: windows})[0]


def openvino_forward(graph: Path, shape: tuple[int, ...], *, precision: str = "auto", batch: int = 1) -> Forward:
    """attunet's CPU engine for an OpenVINO graph or an ONNX file."""
    engine = OpenVINOEngine(graph, shape, precision=precision, batch=batch)
    return lambda windows: engine(windows).logits


def torch_engine_forward(network: AttentionUNet, device: str, *, batch: int = 1) -> Forward:
    """attunet's GPU engine."""
    engine = TorchEngine(None, network, device=device, batch=batch)
    return lambda windows: engine(windows).logits


def quantize_on_noise(graph: Path, shape: Sequence[int], path: Path) -> Path:
    """Quantize the graph to int8, calibrated on noise: valid for measuring speed only."""
    os.environ.setdefault("NNCF_CI", "1")  # otherwise nncf sends telemetry
    import nncf
    import openvino as ov

    random = np.random.default_rng(0)
    core = ov.Core()
    model = core.read_model(graph)
    model.reshape([1, *shape])
    noise = [random.standard_normal((1, *shape), dtype=np.float32) for _ in range(4)]
    ov.save_model(nncf.quantize(model, nncf.Dataset(noise), subset_size=len(noise)), path, compress_to_fp16=False)
    return path


def openvino_graph(model: Path) -> Path:
    """The OpenVINO graph of a model folder's first fold."""
    return fold_folder(model, 0) / "graph.xml"


def gflop(network: nn.Module, shape: Sequence[int]) -> float:
    """GFLOP of one window (C, *patch) by torch's counter: convolutions and products, a multiply-add counts as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape))
    return float(counter.get_total_flops() / 1e9)


def rows(peers: Mapping[str, Peer], window: Floats, rounds: int, *, same_weights: Collection[str] = ()) -> list[Row]:
    """Measure all peers in turn: a row for each, with its GFLOP/s and the error of its logits.

    Args:
        peers: the forward passes by name; the first is the reference.
        window: the input (1, C, *patch).
        rounds: how often each peer is measured.
        same_weights: the peers with the weights of the first, whose logits are compared with it.
    Returns: the rows in the order of the peers.
    """
    runs = {name: partial(_seconds, peer, window) for name, peer in peers.items()}
    seconds = interleave(runs, rounds, warm_up=2)
    first = next(iter(peers))
    reference = peers[first].forward(window)
    measured = []
    for name, peer in peers.items():
        facts = {"GFLOP/s": f"{peer.gflop / Row(name, seconds[name]).median:.0f}"}
        if name in same_weights and name != first:
            worst = np.abs(peer.forward(window) - reference).max() / np.abs(reference).max()
            facts["max. relative logit error"] = f"{worst:.1e}"
        measured.append(Row(name, seconds[name], facts))
    return measured


def _seconds(peer: Peer, window: Floats) -> float:
    """Seconds per window."""
    windows = np.repeat(window, peer.batch_size, axis=0)
    started = time.perf_counter()
    peer.forward(windows)
    return (time.perf_counter() - started) / peer.batch_size
