"""The share of the machine's compute ceiling that is used: by each engine on one window, and from file to file.

    python benchmarks/ceiling.py [--rounds 9] [--quick]

The ceiling is measured: the fastest of several convolutions with favourable shapes, in torch and in OpenVINO.
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
from forward import (
    PRECISION,
    Forward,
    Peer,
    export_onnx,
    onnxruntime_forward,
    openvino_forward,
    openvino_graph,
    rows,
    torch_forward,
)
from harness import Goal, Row, Table, interleave
from models import case_model
from processes import PeakMemory
from programs import attunet_command
from results import argument_parser, publish
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
"""Channels and edge length of the convolved cubes; the fastest counts."""
LAYERS = 4
END_TO_END = "attunet predict"
MAX_CASE_ROUNDS = 5
"""Maximum number of rounds with whole cases, which take a minute or two each."""


class CountingEngine:
    """Wraps an engine and counts its windows and their time."""

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
    """A network of 3 × 3 × 3 convolutions only."""
    torch.manual_seed(0)
    layers = [nn.Conv3d(channels, channels, 3, padding=1, bias=False) for _ in range(LAYERS)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=(27 * channels) ** -0.5)
    return nn.Sequential(*layers).eval()


def compute_ceiling(rounds: int, work: Path, quick: bool) -> dict[str, float]:
    """The highest measured GFLOP/s by precision."""
    best: dict[str, float] = {}
    for channels, edge in ((8, 16),) if quick else SHAPES:
        network, shape = convolutions(channels), (channels, edge, edge, edge)
        file = export_onnx(network, shape, work / "convolutions.onnx")
        gflop = 2e-9 * LAYERS * 27 * channels**2 * edge**3
        window = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
        for precision in dict.fromkeys(("fp32", PRECISION)):
            bf16 = precision == "bf16"
            peers = {
                "torch": Peer(torch_forward(network, bf16=bf16, last=True), gflop),
                "openvino": Peer(openvino_forward(file, shape, precision=precision), gflop),
                "openvino, batch 2": Peer(openvino_forward(file, shape, precision=precision, batch=2), gflop, 2),
            }
            rates = (gflop / min(row.seconds) for row in rows(peers, window, rounds))
            best[precision] = max(best.get(precision, 0.0), *rates)
    return best


def window_table(model: Path, ceiling: dict[str, float], options: argparse.Namespace) -> Table:
    """Each engine on one window, with the model that predicts whole cases."""
    bundle = load_bundle(model)
    plan = bundle.plan
    shape, gflop = (1, *plan.patch_size), count_flops(plan.network, plan.patch_size) / 1e9
    network = AttentionUNet.from_config(plan.network).eval()
    load_weights(bundle.folds[0].weights, network)
    file = export_onnx(network, shape, options.work / "case.onnx")
    graph = openvino_graph(model)
    forwards: dict[str, tuple[Forward, str, int]] = {
        "torch eager fp32": (torch_forward(network), "fp32", 1),
        "torch autocast bf16, channels_last": (torch_forward(network, bf16=True, last=True), "bf16", 1),
        "ONNX Runtime fp32": (onnxruntime_forward(file), "fp32", 1),
        "attunet's engine, fp32": (openvino_forward(graph, shape, precision="fp32"), "fp32", 1),
        f"attunet's engine, {PRECISION}": (openvino_forward(graph, shape), PRECISION, 1),
        "— batch of two windows as in `predict`, per window": (openvino_forward(graph, shape, batch=2), PRECISION, 2),
    }
    window = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    peers = {name: Peer(forward, gflop, batch_size) for name, (forward, _precision, batch_size) in forwards.items()}
    measured = []
    for row in rows(peers, window, options.rounds):
        precision = forwards[row.name][1]
        share = gflop / row.median / ceiling.get(precision, ceiling["fp32"])
        measured.append(replace(row, facts=row.facts | {"share of the ceiling": f"{share:.0%} of {precision}"}))
    peak = ", ".join(f"{value:.0f} GFLOP/s in {precision}" for precision, value in ceiling.items())
    patch = " × ".join(map(str, plan.patch_size))
    notes = (f"Ceiling: {peak}.", f"Window of {patch}, channels {plan.network.channels}, {gflop:.3g} GFLOP.")
    return Table("ceiling_window", "Share of the compute ceiling, one window", tuple(measured), notes=notes)


def case_table(model: Path, ceiling: dict[str, float], options: argparse.Namespace) -> Table:
    """A CT from file to file: the FLOPs of the windows that ran, divided by the time of the whole program."""
    scan = synthetic_ct(options.work, quick=options.quick)
    plan = load_bundle(model).plan
    engine, seconds = predict_counting(model, scan, options.step)
    gflop, peak = engine.windows * count_flops(plan.network, plan.patch_size) / 1e9, ceiling[PRECISION]
    line = attunet_command(model, scan, options.work / "masks_ceiling", options.step)
    run = partial(PeakMemory().run, END_TO_END, line, options.work / "case.log")
    row = Row(END_TO_END, interleave({END_TO_END: run}, min(options.rounds, MAX_CASE_ROUNDS))[END_TO_END])
    share = gflop / row.median / peak
    facts = {
        "windows": str(engine.windows),
        "GFLOP/s": f"{gflop / row.median:.0f}",
        "share of the ceiling": f"{share:.0%} of {PRECISION}",
    }
    profile = (
        f"In one process: {seconds:.1f} s from file to mask, {engine.seconds:.1f} s of it in the network "
        f"({gflop / engine.seconds / peak:.0%} of the ceiling); the rest is reading, resampling and argmax."
    )
    shape = " × ".join(map(str, read_volume(scan).spatial_shape))
    goal = Goal("share of the ceiling, end to end", share, 0.6, "share")
    title = f"Share of the compute ceiling, CT of {shape}, file to file"
    return Table("ceiling_case", title, (replace(row, facts=facts),), (goal,), (profile,))


def predict_counting(model: Path, scan: Path, step: float) -> tuple[CountingEngine, float]:
    """Predict in this process. Returns: the engine with its counts, and the seconds from file to mask."""
    segmenter = Segmenter.load(model)
    member = segmenter.members[0]
    engine = CountingEngine(member.engines[0])
    counting = replace(segmenter, members=(replace(member, engines=(engine,)),))
    started = time.perf_counter()
    counting.predict(scan, step_size=step, mirror=False)
    return engine, time.perf_counter() - started


def main() -> None:
    parser = argument_parser(__doc__, rounds=9)
    parser.add_argument("--step", type=float, default=1.0, help="distance between windows, as a fraction of the patch")
    options = parser.parse_args()
    model = case_model(options.work, options.quick)
    ceiling = compute_ceiling(options.rounds, options.work, options.quick)
    publish([window_table(model, ceiling, options)], options)
    publish([case_table(model, ceiling, options)], options)


if __name__ == "__main__":
    main()
