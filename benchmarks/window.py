"""One 3-D window forward: MONAI's AttentionUnet by its own means, and the same weights in our engine.

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
    gflop,
    graph_of,
    in_torch,
    onnx_of,
    our_engine,
    our_torch,
    quantized,
    rows,
    runtime,
)
from harness import Goal, Row, Table, ratios
from machine import gpu
from models import network_like, plan_of, write_model
from monai_network import monai_network
from results import arguments, publish
from torch import nn

from attunet.nn import AttentionUNet

CHANNELS, EDGE = (16, 32, 64, 128, 256), 96
EAGER = "MONAI AttentionUnet, torch eager fp32"
SAME = "its weights in attunet's engine"
OURS, INT8 = f"{SAME}, {PRECISION}", f"{SAME}, int8 (speed only: calibrated on noise)"
DEFAULT = "attunet's default network of these channels"


def switches(network: nn.Module, device: str, compiled: bool) -> dict[str, Forward]:
    """What torch itself offers."""
    found = {
        EAGER: in_torch(network, device=device),
        "— channels_last": in_torch(network, device=device, last=True),
        "— autocast bf16": in_torch(network, device=device, bf16=True),
        "— autocast bf16, channels_last": in_torch(network, device=device, bf16=True, last=True),
    }
    if compiled:
        fast = in_torch(network, device=device, bf16=True, last=True, compiled=True)
        found["— autocast bf16, channels_last, torch.compile"] = fast
    return found


def on_cpu(network: nn.Module, shape: tuple[int, ...], work: Path, quick: bool) -> dict[str, Forward]:
    """Everything that runs MONAI's weights on the CPU; two of our windows at once are how whole cases are predicted."""
    file = onnx_of(network, shape, work / "monai.onnx")
    found = switches(network, "cpu", can_compile() and not quick)
    found["— ONNX Runtime fp32"] = runtime(file)
    found[f"{SAME}, fp32"] = our_engine(file, shape, precision="fp32")
    if PRECISION != "fp32":
        found[OURS] = our_engine(file, shape)
    if not quick:
        found[INT8] = our_engine(quantized(file, shape, work / "monai_int8.xml"), shape)
    return found


def ours(channels: tuple[int, ...], edge: int, work: Path) -> tuple[AttentionUNet, Path]:
    """Our default network of these channels, and its graph."""
    plan = plan_of(network_like(channels), (edge,) * 3)
    model = work / f"window_model_{edge}"
    if not (model / "manifest.json").exists():
        write_model(plan, model)
    return AttentionUNet.from_config(plan.network).eval(), graph_of(model)


def goals(found: list[Row]) -> tuple[Goal, ...]:
    """Asked of the same weights in our engine."""
    seconds = {row.name: row.seconds for row in found}
    asked = {OURS: 5.0, INT8: 9.0}
    return tuple(
        Goal(f"{name}, against torch eager fp32", ratios(seconds[EAGER], seconds[name])[0], least)
        for name, least in asked.items()
        if name in seconds
    )


def main() -> None:
    given = arguments(__doc__, rounds=15).parse_args()
    channels, edge = ((4, 8, 16), 32) if given.quick else (CHANNELS, EDGE)
    shape = (1, edge, edge, edge)
    network, (own, graph) = monai_network(channels), ours(channels, edge, given.work)
    theirs, mine = gflop(network, shape), gflop(own, shape)
    window = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    note = f"{edge}³ voxels, channels {channels}, {theirs:.1f} GFLOP; attunet's default network: {mine:.1f} GFLOP."
    threads = f"{torch.get_num_threads()} threads."
    peers = {name: Peer(forward, theirs) for name, forward in on_cpu(network, shape, given.work, given.quick).items()}
    same = tuple(peers)
    both = our_engine(onnx_of(network, shape, given.work / "monai.onnx"), shape, batch=2)
    peers[f"{OURS}, two windows at once, each"] = Peer(both, theirs, 2)
    peers[f"{DEFAULT}, {PRECISION}"] = Peer(our_engine(graph, shape), mine)
    found = rows(peers, window, given.rounds, alike=same)
    tables = [Table("window_cpu", "One 3-D window forward, CPU", tuple(found), goals(found), (note, threads))]
    if gpu():
        fast = switches(network, "cuda", not given.quick)
        peers = {name: Peer(forward, theirs) for name, forward in fast.items()}
        peers[f"{DEFAULT}, fp16"] = Peer(our_torch(own, "cuda"), mine)
        found = rows(peers, window, given.rounds, alike=tuple(fast))
        tables.append(Table("window_gpu", f"One 3-D window forward, {gpu()}", tuple(found), notes=(note,)))
    publish(tables, given)


if __name__ == "__main__":
    main()
