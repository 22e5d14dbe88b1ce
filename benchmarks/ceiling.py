"""How much of what this machine can compute is used: by each engine on one window, and from file to file.

    python benchmarks/ceiling.py [--rounds 9] [--quick]

The ceiling is measured: the fastest of many convolutions of favourable shapes, through torch and through OpenVINO.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from forward import PRECISION, Forward, Peer, graph_of, in_torch, onnx_of, our_engine, rows, runtime
from harness import Goal, Row, Table, interleave
from models import case_model
from processes import Peaks
from programs import attunet
from results import arguments, publish
from scans import synthetic_ct
from torch import nn

from attunet.bundle import load_bundle
from attunet.data.formats import read_volume
from attunet.inference.engines.protocol import Engine, EngineOutput
from attunet.inference.segmenter import Segmenter
from attunet.nn import AttentionUNet, load_weights
from attunet.planning.layers import count_flops

Floats = npt.NDArray[np.float32]
SHAPES = ((64, 48), (128, 32), (256, 24))
"""Channels and edge of the cubes that are convolved; the fastest counts."""
LAYERS = 4
END_TO_END = "attunet predict"
MOST_CASES = 5
"""Rounds of whole cases, a minute or two each."""


class Counted:
    """An engine that knows how many windows it ran, and for how long."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.batch = engine.name, engine.batch
        self.windows, self.seconds = 0, 0.0
        self.engine, self._lock = engine, threading.Lock()

    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        started = time.perf_counter()
        output = self.engine(patches, attention)
        with self._lock:
            self.windows += len(patches)
            self.seconds += time.perf_counter() - started
        return output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def convolutions(channels: int) -> nn.Module:
    """Nothing but convolutions, 3 × 3 × 3."""
    torch.manual_seed(0)
    layers = [nn.Conv3d(channels, channels, 3, padding=1, bias=False) for _ in range(LAYERS)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=(27 * channels) ** -0.5)
    return nn.Sequential(*layers).eval()


def peaks(rounds: int, work: Path, quick: bool) -> dict[str, float]:
    """GFLOP/s by precision."""
    best: dict[str, float] = {}
    for channels, edge in ((8, 16),) if quick else SHAPES:
        network, shape = convolutions(channels), (channels, edge, edge, edge)
        file = onnx_of(network, shape, work / "convolutions.onnx")
        gflop = 2e-9 * LAYERS * 27 * channels**2 * edge**3
        window = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
        for precision in dict.fromkeys(("fp32", PRECISION)):
            bf16 = precision == "bf16"
            peers = {
                "torch": Peer(in_torch(network, bf16=bf16, last=True), gflop),
                "openvino": Peer(our_engine(file, shape, precision=precision), gflop),
                "two at once": Peer(our_engine(file, shape, precision=precision, batch=2), gflop, 2),
            }
            found = (gflop / min(row.seconds) for row in rows(peers, window, rounds))
            best[precision] = max(best.get(precision, 0.0), *found)
    return best


def one_window(model: Path, ceiling: dict[str, float], given: argparse.Namespace) -> Table:
    """Each engine on a window of the model that whole cases are predicted with."""
    bundle = load_bundle(model)
    plan = bundle.plan
    shape, gflop = (1, *plan.patch_size), count_flops(plan.network, plan.patch_size) / 1e9
    network = AttentionUNet.from_config(plan.network).eval()
    load_weights(bundle.folds[0].weights, network)
    file = onnx_of(network, shape, given.work / "case.onnx")
    graph = graph_of(model)
    forwards: dict[str, tuple[Forward, str, int]] = {
        "torch eager fp32": (in_torch(network), "fp32", 1),
        "torch autocast bf16, channels_last": (in_torch(network, bf16=True, last=True), "bf16", 1),
        "ONNX Runtime fp32": (runtime(file), "fp32", 1),
        "attunet's engine, fp32": (our_engine(graph, shape, precision="fp32"), "fp32", 1),
        f"attunet's engine, {PRECISION}": (our_engine(graph, shape), PRECISION, 1),
        "— two windows at once, as it predicts cases, each": (our_engine(graph, shape, batch=2), PRECISION, 2),
    }
    window = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    peers = {name: Peer(forward, gflop, at_once) for name, (forward, _precision, at_once) in forwards.items()}
    found = []
    for row in rows(peers, window, given.rounds):
        precision = forwards[row.name][1]
        share = gflop / row.median / ceiling.get(precision, ceiling["fp32"])
        found.append(replace(row, facts=row.facts | {"share of the ceiling": f"{share:.0%} of {precision}"}))
    measured = ", ".join(f"{value:.0f} GFLOP/s in {precision}" for precision, value in ceiling.items())
    patch = " × ".join(map(str, plan.patch_size))
    notes = (f"The ceiling: {measured}.", f"A window of {patch}, channels {plan.network.channels}, {gflop:.3g} GFLOP.")
    return Table("ceiling_window", "Share of the machine's ceiling, one window", tuple(found), notes=notes)


def end_to_end(model: Path, ceiling: dict[str, float], given: argparse.Namespace) -> Table:
    """A CT from file to file: the work of the windows that had to run, over the time of the whole program."""
    scan = synthetic_ct(given.work, quick=given.quick)
    plan = load_bundle(model).plan
    engine, inside = counted(model, scan, given.step)
    gflop, peak = engine.windows * count_flops(plan.network, plan.patch_size) / 1e9, ceiling[PRECISION]
    line = attunet(model, scan, given.work / "masks_ceiling", given.step)
    run = partial(Peaks().run, END_TO_END, line, given.work / "case.log")
    row = Row(END_TO_END, interleave({END_TO_END: run}, min(given.rounds, MOST_CASES))[END_TO_END])
    share = gflop / row.median / peak
    facts = {
        "windows": str(engine.windows),
        "GFLOP/s": f"{gflop / row.median:.0f}",
        "share of the ceiling": f"{share:.0%} of {PRECISION}",
    }
    profile = (
        f"In one process: {inside:.1f} s from file to mask, of which the network {engine.seconds:.1f} s, "
        f"at {gflop / engine.seconds / peak:.0%} of the ceiling; the rest is reading, resampling and deciding."
    )
    shape = " × ".join(map(str, read_volume(scan).spatial_shape))
    goal = Goal("share of the ceiling, end to end", share, 0.6, "share")
    title = f"Share of the machine's ceiling, a CT of {shape}, file to file"
    return Table("ceiling_case", title, (replace(row, facts=facts),), (goal,), (profile,))


def counted(model: Path, scan: Path, step: float) -> tuple[Counted, float]:
    """The engine after a prediction in this process, and the seconds that it took from file to mask."""
    segmenter = Segmenter.load(model)
    member = segmenter.members[0]
    engine = Counted(member.engines[0])
    watched = replace(segmenter, members=(replace(member, engines=(engine,)),))
    started = time.perf_counter()
    watched.predict(scan, step=step, mirror=False)
    return engine, time.perf_counter() - started


def main() -> None:
    parser = arguments(__doc__, rounds=9)
    parser.add_argument("--step", type=float, default=1.0, help="distance of the windows, in patches")
    given = parser.parse_args()
    model = case_model(given.work, given.quick)
    ceiling = peaks(given.rounds, given.work, given.quick)
    publish([one_window(model, ceiling, given)], given)
    publish([end_to_end(model, ceiling, given)], given)


if __name__ == "__main__":
    main()
