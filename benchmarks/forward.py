"""One window through a network, by whatever runs it: torch and its switches, ONNX Runtime, our engine."""

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
from attunet.inference.engines.openvino_engine import OpenVINOEngine, cpu_precision
from attunet.inference.engines.torch_engine import TorchEngine
from attunet.nn import AttentionUNet

__all__ = [
    "LAYOUTS",
    "PRECISION",
    "Forward",
    "Peer",
    "can_compile",
    "gflop",
    "graph_of",
    "in_torch",
    "lay_out",
    "onnx_of",
    "our_engine",
    "our_torch",
    "quantized",
    "rows",
    "runtime",
]

PRECISION = cpu_precision()
"""Of our engine on this CPU."""

Floats = npt.NDArray[np.float32]
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""channels_last by the axes of a tensor (B, C, *spatial)."""

Forward = Callable[[Floats], Floats]
"""Windows (B, C, *patch) to logits (B, classes, *patch), both in the CPU's memory."""


class Peer(NamedTuple):
    """What runs a network, the GFLOP of one window, and how many windows it is given at once."""

    forward: Forward
    gflop: float
    at_once: int = 1


def in_torch(
    network: nn.Module, *, device: str = "cpu", bf16: bool = False, last: bool = False, compiled: bool = False
) -> Forward:
    """torch eager or compiled, in fp32 or autocast, contiguous or channels_last."""
    net = deepcopy(network).to(device).eval()
    if last:
        lay_out(net)
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


def lay_out(network: nn.Module) -> None:
    """Put the weights into channels_last, of two or three dimensions."""
    for weight in network.parameters():
        if weight.ndim in LAYOUTS:
            weight.data = weight.data.contiguous(memory_format=LAYOUTS[weight.ndim])


def _autocast(device: str, on: bool) -> AbstractContextManager[object]:
    return torch.autocast(device, dtype=torch.bfloat16) if on else nullcontext()


def can_compile() -> bool:
    """Whether torch.compile finds a compiler for the CPU."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def onnx_of(network: nn.Module, shape: Sequence[int], path: Path) -> Path:
    """The network as an ONNX file for windows (1, C, *patch), its output named logits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(), (torch.zeros(1, *shape),), output_names=["logits"], dynamo=True, verbose=False
        )
    assert program is not None
    program.save(path)
    return path


def runtime(path: Path) -> Forward:
    """ONNX Runtime on the CPU, with its own defaults and all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda windows: session.run(["logits"], {name: windows})[0]


def our_engine(graph: Path, shape: tuple[int, ...], *, precision: str = "auto", batch: int = 1) -> Forward:
    """attunet's engine on the CPU, from an OpenVINO graph or an ONNX file."""
    engine = OpenVINOEngine(graph, shape, precision=precision, batch=batch)
    return lambda windows: engine(windows).logits


def our_torch(network: AttentionUNet, device: str, *, batch: int = 1) -> Forward:
    """attunet's engine on a GPU."""
    engine = TorchEngine(None, network, device=device, batch=batch)
    return lambda windows: engine(windows).logits


def quantized(graph: Path, shape: Sequence[int], path: Path) -> Path:
    """The graph in int8, calibrated on noise: right for its speed, and for nothing else."""
    os.environ.setdefault("NNCF_CI", "1")  # or it reports its use over the network
    import nncf
    import openvino as ov

    random = np.random.default_rng(0)
    core = ov.Core()
    model = core.read_model(graph)
    model.reshape([1, *shape])
    noise = [random.standard_normal((1, *shape), dtype=np.float32) for _ in range(4)]
    ov.save_model(nncf.quantize(model, nncf.Dataset(noise), subset_size=len(noise)), path, compress_to_fp16=False)
    return path


def graph_of(model: Path) -> Path:
    """The OpenVINO graph of a model folder's first fold."""
    return fold_folder(model, 0) / "graph.xml"


def gflop(network: nn.Module, shape: Sequence[int]) -> float:
    """Of one window (C, *patch), as torch counts: a multiply-add is two, convolutions and products only."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape))
    return float(counter.get_total_flops() / 1e9)


def rows(peers: Mapping[str, Peer], window: Floats, rounds: int, *, alike: Collection[str] = ()) -> list[Row]:
    """One for each peer, with its GFLOP/s; where its weights are the first's, by how much its logits differ.

    Args: a window (1, C, *patch); which peers hold the same weights.
    """
    runs = {name: partial(_seconds, peer, window) for name, peer in peers.items()}
    seconds = interleave(runs, rounds, warm_up=2)
    first = next(iter(peers))
    reference = peers[first].forward(window)
    found = []
    for name, peer in peers.items():
        facts = {"GFLOP/s": f"{peer.gflop / Row(name, seconds[name]).median:.0f}"}
        if name in alike and name != first:
            worst = np.abs(peer.forward(window) - reference).max() / np.abs(reference).max()
            facts["largest error of a logit"] = f"{worst:.1e}"
        found.append(Row(name, seconds[name], facts))
    return found


def _seconds(peer: Peer, window: Floats) -> float:
    """Of one window."""
    windows = np.repeat(window, peer.at_once, axis=0)
    started = time.perf_counter()
    peer.forward(windows)
    return (time.perf_counter() - started) / peer.at_once
