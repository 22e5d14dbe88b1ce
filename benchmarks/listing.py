"""The popular 2-D listing's network, 256 x 256: torch eager as its users run it, and the same weights in our engine.

python benchmarks/listing.py [--quick] [--rounds 15]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from forward import PRECISION, Forward, Peer, gflop, graph_of, in_torch, our_engine, our_torch, rows
from harness import Goal, Table, ratios
from machine import gpu
from models import plan_of
from results import arguments, publish

from attunet.bundle import fold_folder, save_manifest, save_plan
from attunet.export.foreign import with_background
from attunet.export.formats import export_openvino
from attunet.nn import AttentionUNet, listing, save_weights

CHANNELS, EDGE = (64, 128, 256, 512, 1024), 256
EAGER = "the listing, torch eager fp32"
OURS = f"its weights in attunet's engine, {PRECISION}"


def graph_of_listing(network: AttentionUNet, edge: int, model: Path) -> Path:
    """Written as `attunet convert` writes it: the one sigmoid output becomes two of a softmax."""
    wider = with_background(network)
    plan = plan_of(wider.config, (edge, edge, 1))
    save_plan(plan, model)
    save_weights(wider, fold_folder(model, 0) / "weights.safetensors")
    export_openvino(wider, plan, graph_of(model))
    save_manifest(model)
    return graph_of(model)


def foreground(forward: Forward) -> Forward:
    """The second of two outputs, which is the listing's only one."""
    return lambda windows: forward(windows)[:, 1:]


def main() -> None:
    given = arguments(__doc__, rounds=15).parse_args()
    channels, edge = ((4, 8, 16, 32, 64), 64) if given.quick else (CHANNELS, EDGE)
    shape = (3, edge, edge)
    torch.manual_seed(0)
    network = listing(channels=channels).eval()
    work = gflop(network, shape)
    graph = graph_of_listing(network, edge, given.work / f"listing_model_{edge}")
    image = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    peers = {
        EAGER: Peer(in_torch(network), work),
        "— autocast bf16, channels_last": Peer(in_torch(network, bf16=True, last=True), work),
        "its weights in attunet's engine, fp32": Peer(foreground(our_engine(graph, shape, precision="fp32")), work),
        OURS: Peer(foreground(our_engine(graph, shape)), work),
        f"{OURS}, two images at once, each": Peer(foreground(our_engine(graph, shape, batch=2)), work, 2),
    }
    found = rows(peers, image, given.rounds, alike=tuple(peers)[:-1])
    seconds = {row.name: row.seconds for row in found}
    goal = Goal(f"{OURS}, against its torch eager fp32", ratios(seconds[EAGER], seconds[OURS])[0], 3.2)
    note = f"Channels {channels}, 3 × {edge}² voxels, {work:.1f} GFLOP, {torch.get_num_threads()} threads."
    tables = [Table("listing_cpu", "The 2-D listing's network, CPU", tuple(found), (goal,), (note,))]
    if gpu():
        peers = {EAGER: Peer(in_torch(network, device="cuda"), work), OURS: Peer(our_torch(network, "cuda"), work)}
        found = rows(peers, image, given.rounds, alike=tuple(peers))
        tables.append(Table("listing_gpu", f"The 2-D listing's network, {gpu()}", tuple(found), notes=(note,)))
    publish(tables, given)


if __name__ == "__main__":
    main()
