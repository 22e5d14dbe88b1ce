"""The network of the popular 2-D listing at 256 x 256: torch eager as its users run it, and attunet's engine.

python benchmarks/listing.py [--quick] [--rounds 15]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from forward import (
    PRECISION,
    Forward,
    Peer,
    gflop,
    openvino_forward,
    openvino_graph,
    rows,
    torch_engine_forward,
    torch_forward,
)
from harness import Goal, Table, ratios
from machine import gpu
from models import benchmark_plan
from results import argument_parser, publish

from attunet.bundle import fold_folder, save_manifest, save_plan
from attunet.export.foreign import with_background
from attunet.export.formats import export_openvino
from attunet.nn import AttentionUNet, listing, save_weights

CHANNELS, EDGE = (64, 128, 256, 512, 1024), 256
EAGER = "the listing, torch eager fp32"
OURS = f"the same weights in attunet's engine, {PRECISION}"


def listing_graph(network: AttentionUNet, edge: int, model: Path) -> Path:
    """Write the graph as `attunet convert` does: its single sigmoid output becomes a softmax over two classes."""
    softmax_network = with_background(network)
    plan = benchmark_plan(softmax_network.config, (edge, edge, 1))
    save_plan(plan, model)
    save_weights(softmax_network, fold_folder(model, 0) / "weights.safetensors")
    export_openvino(softmax_network, plan, openvino_graph(model))
    save_manifest(model)
    return openvino_graph(model)


def foreground(forward: Forward) -> Forward:
    """The second of the two outputs, which equals the listing's only output."""
    return lambda windows: forward(windows)[:, 1:]


def main() -> None:
    options = argument_parser(__doc__, rounds=15).parse_args()
    channels, edge = ((4, 8, 16, 32, 64), 64) if options.quick else (CHANNELS, EDGE)
    shape = (3, edge, edge)
    torch.manual_seed(0)
    network = listing(channels=channels).eval()
    work = gflop(network, shape)
    graph = listing_graph(network, edge, options.work / f"listing_model_{edge}")
    image = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    peers = {
        EAGER: Peer(torch_forward(network), work),
        "— autocast bf16, channels_last": Peer(torch_forward(network, bf16=True, last=True), work),
        "the same weights in attunet's engine, fp32": Peer(
            foreground(openvino_forward(graph, shape, precision="fp32")), work
        ),
        OURS: Peer(foreground(openvino_forward(graph, shape)), work),
        f"{OURS}, batch of two images, per image": Peer(foreground(openvino_forward(graph, shape, batch=2)), work, 2),
    }
    measured = rows(peers, image, options.rounds, same_weights=tuple(peers)[:-1])
    seconds = {row.name: row.seconds for row in measured}
    goal = Goal(f"{OURS}, compared with torch eager fp32", ratios(seconds[EAGER], seconds[OURS])[0], 3.2)
    note = f"Channels {channels}, 3 × {edge}² voxels, {work:.1f} GFLOP, {torch.get_num_threads()} threads."
    tables = [Table("listing_cpu", "Network of the 2-D listing, CPU", tuple(measured), (goal,), (note,))]
    if gpu():
        peers = {
            EAGER: Peer(torch_forward(network, device="cuda"), work),
            OURS: Peer(torch_engine_forward(network, "cuda"), work),
        }
        measured = rows(peers, image, options.rounds, same_weights=tuple(peers))
        tables.append(Table("listing_gpu", f"Network of the 2-D listing, {gpu()}", tuple(measured), notes=(note,)))
    publish(tables, options)


if __name__ == "__main__":
    main()
