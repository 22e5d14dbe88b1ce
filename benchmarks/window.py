"""Forward pass of one 3-D window: MONAI's AttentionUnet in torch, and the same weights in attunet's engine.

python benchmarks/window.py [--quick] [--rounds 15]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from forward import (
    PRECISION,
    Forward,
    Peer,
    can_compile,
    export_onnx,
    gflop,
    onnxruntime_forward,
    openvino_forward,
    openvino_graph,
    quantize_on_noise,
    rows,
    torch_engine_forward,
    torch_forward,
)
from harness import Goal, Row, Table, ratios
from machine import gpu
from models import benchmark_plan, network_config, write_model
from monai_network import monai_network
from results import argument_parser, publish
from torch import nn

from attunet.nn import AttentionUNet

CHANNELS, EDGE = (16, 32, 64, 128, 256), 96
EAGER = "MONAI AttentionUnet, torch eager fp32"
SAME = "the same weights in attunet's engine"
OURS, INT8 = f"{SAME}, {PRECISION}", f"{SAME}, int8 (speed only: calibrated on noise)"
DEFAULT = "attunet's default network with the same channels"


def torch_forwards(network: nn.Module, device: str, compiled: bool) -> dict[str, Forward]:
    """The options of torch itself."""
    forwards = {
        EAGER: torch_forward(network, device=device),
        "— channels_last": torch_forward(network, device=device, last=True),
        "— autocast bf16": torch_forward(network, device=device, bf16=True),
        "— autocast bf16, channels_last": torch_forward(network, device=device, bf16=True, last=True),
    }
    if compiled:
        fast = torch_forward(network, device=device, bf16=True, last=True, compiled=True)
        forwards["— autocast bf16, channels_last, torch.compile"] = fast
    return forwards


def cpu_forwards(network: nn.Module, shape: tuple[int, ...], work: Path, quick: bool) -> dict[str, Forward]:
    """Everything that runs MONAI's weights on the CPU, one window per call."""
    file = export_onnx(network, shape, work / "monai.onnx")
    forwards = torch_forwards(network, "cpu", can_compile() and not quick)
    forwards["— ONNX Runtime fp32"] = onnxruntime_forward(file)
    forwards[f"{SAME}, fp32"] = openvino_forward(file, shape, precision="fp32")
    if PRECISION != "fp32":
        forwards[OURS] = openvino_forward(file, shape)
    if not quick:
        forwards[INT8] = openvino_forward(quantize_on_noise(file, shape, work / "monai_int8.xml"), shape)
    return forwards


def default_model(channels: tuple[int, ...], edge: int, work: Path) -> tuple[AttentionUNet, Path]:
    """attunet's default network with these channels, and its graph."""
    plan = benchmark_plan(network_config(channels), (edge,) * 3)
    model = work / f"window_model_{edge}"
    if not (model / "manifest.json").exists():
        write_model(plan, model)
    return AttentionUNet.from_config(plan.network).eval(), openvino_graph(model)


def goals(measured: list[Row]) -> tuple[Goal, ...]:
    """The targets for the same weights in attunet's engine."""
    seconds = {row.name: row.seconds for row in measured}
    targets = {OURS: 5.0, INT8: 9.0}
    return tuple(
        Goal(f"{name}, compared with torch eager fp32", ratios(seconds[EAGER], seconds[name])[0], target)
        for name, target in targets.items()
        if name in seconds
    )


def main() -> None:
    options = argument_parser(__doc__, rounds=15).parse_args()
    channels, edge = ((4, 8, 16), 32) if options.quick else (CHANNELS, EDGE)
    shape = (1, edge, edge, edge)
    network, (own, graph) = monai_network(channels), default_model(channels, edge, options.work)
    theirs, mine = gflop(network, shape), gflop(own, shape)
    window = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    note = f"{edge}³ voxels, channels {channels}, {theirs:.1f} GFLOP; attunet's default network: {mine:.1f} GFLOP."
    threads = f"{torch.get_num_threads()} threads."
    peers = {
        name: Peer(forward, theirs)
        for name, forward in cpu_forwards(network, shape, options.work, options.quick).items()
    }
    same = tuple(peers)
    both = openvino_forward(export_onnx(network, shape, options.work / "monai.onnx"), shape, batch=2)
    peers[f"{OURS}, batch of two windows, per window"] = Peer(both, theirs, 2)
    peers[f"{DEFAULT}, {PRECISION}"] = Peer(openvino_forward(graph, shape), mine)
    measured = rows(peers, window, options.rounds, same_weights=same)
    tables = [
        Table("window_cpu", "Forward pass of one 3-D window, CPU", tuple(measured), goals(measured), (note, threads))
    ]
    if gpu():
        fast = torch_forwards(network, "cuda", not options.quick)
        peers = {name: Peer(forward, theirs) for name, forward in fast.items()}
        peers[f"{DEFAULT}, fp16"] = Peer(torch_engine_forward(own, "cuda"), mine)
        measured = rows(peers, window, options.rounds, same_weights=tuple(fast))
        tables.append(Table("window_gpu", f"Forward pass of one 3-D window, {gpu()}", tuple(measured), notes=(note,)))
    publish(tables, options)


if __name__ == "__main__":
    main()
