"""attunet's server and MONAI Label's, with the same weights, asked the same by a client of MONAI Label's protocol.

    python benchmarks/serve_peer.py --env ENV [--rounds 3] [--starts 3] [--quick] [--page]

Takes minutes, and on the first call some more, to train the model and to install MONAI Label into ENV. MONAI Label
serves the MONAI Bundle that `attunet export --format monai` makes of a model trained for 90 s on synthetic
abdomens. A request uploads a scan and waits for its mask: a scan of one window, and a CT of 512 x 512 x 100. The
servers take turns, with one client and on the same cores. MONAI Label is measured as it is installed, and at its best
without a GPU: with its model loaded at the start and, where the CPU has bf16, which attunet uses there, with a bundle
changed to compute in bf16.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from case import mean_dice
from harness import Row, Table, interleave
from machine import cores, describe
from models import (
    PATCH,
    TINY_CHANNELS,
    TINY_PATCH,
    TINY_SPACING,
    benchmark_plan,
    network_config,
    trained_model,
    write_model,
)
from monai_label import MONAILabel
from page import duration
from processes import measure
from programs import Command
from results import argument_parser, publish, update_page
from scans import thick_ct
from servers import LabelServer

from attunet.bundle import load_bundle
from attunet.data.formats import read_volume, write_volume
from attunet.data.phantom import PHANTOM_LABELS, make_phantom, write_phantom_dataset

CHANNELS, SPACING = (16, 32, 64, 128), (3.0, 3.0, 3.0)
CASES, TRAINING_SECONDS = 8, 90
PATIENT = 1000
"""The seed of the scan of one window: none of the training cases."""
MODEL = "organs"
PLAIN, OURS = "MONAI Label", "attunet serve"
COMPILED = 2
"""Calls after which TorchScript has compiled the network."""


@dataclass(frozen=True)
class Program:
    """A server to measure.

    Args:
        command: its command, without a port.
        variables: its environment variables.
        log: the file of its output.
    """

    command: Command
    variables: Mapping[str, str]
    log: Path

    def server(self) -> LabelServer:
        """A server that starts when it is entered."""
        return LabelServer(self.command, MODEL, self.log, **self.variables)


def served_model(work: Path, *, quick: bool) -> Path:
    """The model folder, created once; a quick one has random weights."""
    channels, patch, spacing = (TINY_CHANNELS, TINY_PATCH, TINY_SPACING) if quick else (CHANNELS, PATCH, SPACING)
    labels = PHANTOM_LABELS
    plan = benchmark_plan(network_config(channels, classes=len(labels)), patch, labels=labels, spacing=spacing)
    root, dataset = work / ("quick_served" if quick else "served"), work / "phantoms"
    if (root / "manifest.json").exists():
        return root
    if quick:
        write_model(plan, root)
        return root
    write_phantom_dataset(dataset, CASES, 0)
    return trained_model(plan, dataset, root, TRAINING_SECONDS)


def one_window_scan(work: Path) -> Path:
    """A part of an abdomen of 36 x 50 x 35 voxels, as large as a hippocampus of the Decathlon, but of 3 mm."""
    path = work / "one_window_part.nii.gz"
    if not path.exists():
        image, _label = make_phantom(PATIENT, shape=(112, 93, 80), spacing=SPACING)
        write_volume(image.with_array(image.array[:, 24:60, 20:70, 22:57]), path)
    return path


def programs_of(model: Path, options: argparse.Namespace) -> dict[str, Program]:
    """The servers by their names in the tables."""
    work = options.work / "serve_peer"
    shutil.rmtree(work, ignore_errors=True)
    bundle, studies = work / "bundle", work / "studies"
    studies.mkdir(parents=True)
    words = ["-m", model, "--format", "monai", "-o", bundle]
    measure([sys.executable, "-m", "attunet", "export", *words], work / "export.log")
    bf16 = "bf16" in describe()["features"]
    plain = MONAILabel.create(bundle, MODEL, options.env, work / "app")
    best = MONAILabel.create(bundle, MODEL, options.env, work / "best_app", bf16=bf16)
    ours: Command = [sys.executable, "-m", "attunet", "serve", "-m", f"{MODEL}={model}", "--data", work / "data"]
    return {
        PLAIN: Program(plain.command(studies, preload=False), plain.variables, work / "plain.log"),
        f"— model preloaded{', bf16' if bf16 else ''}": Program(
            best.command(studies, preload=True), best.variables, work / "best.log"
        ),
        OURS: Program(ours, {}, work / "attunet.log"),
    }


class Starts:
    """Starts of one server, each up to its first mask. Args: the server, the scan, and the file of the mask."""

    def __init__(self, program: Program, scan: Path, mask: Path) -> None:
        self._program, self._scan, self._mask = program, scan, mask
        self._first: list[float] = []
        self._memory: list[float] = []
        self._peak: list[float] = []

    def one(self) -> float:
        """Seconds until the server answers."""
        with self._program.server() as server:
            self._memory.append(server.memory_gb)
            self._first.append(server.infer(self._scan, self._mask))
        self._peak.append(server.peak_gb)
        return server.startup

    def facts(self) -> dict[str, str]:
        """The medians of what is not the start itself."""
        return {
            "then its first mask": duration(statistics.median(self._first)),
            "memory after the start": f"{statistics.median(self._memory):.2f} GB",
            "peak memory with this mask": f"{max(self._peak):.2f} GB",
        }


def starts_table(programs: Mapping[str, Program], scan: Path, options: argparse.Namespace) -> Table:
    """The time from the start of a server until it answers, and until it has sent the first mask of one window."""
    starts = {
        name: Starts(program, scan, options.work / "serve_peer" / "first.nrrd") for name, program in programs.items()
    }
    times = interleave({name: each.one for name, each in starts.items()}, options.starts)
    rows = tuple(Row(name, seconds, starts[name].facts()) for name, seconds in times.items())
    notes = (
        "Until /info/ answers; a second later, the first scan is sent, one of one window. Files are in the cache.",
    )
    return Table("serve_peer_start", "Start of a server", rows, notes=notes)


def in_turn(
    servers: Mapping[str, LabelServer], scan: Path, folder: Path, rounds: int, warm_up: int = 1
) -> tuple[Row, ...]:
    """The seconds of each server from the upload of a scan to its mask, and the Dice of the masks with attunet's."""
    masks = {name: folder / f"{index}.nrrd" for index, name in enumerate(servers)}
    runs = {name: partial(server.infer, scan, masks[name]) for name, server in servers.items()}
    times = interleave(runs, rounds, warm_up=warm_up)
    dice = {name: "" if name == OURS else mean_dice(masks[OURS], mask) for name, mask in masks.items()}
    return tuple(Row(name, seconds, {"Dice with attunet's mask": dice[name]}) for name, seconds in times.items())


def request_tables(
    programs: Mapping[str, Program], model: Path, scans: tuple[Path, Path], options: argparse.Namespace
) -> list[Table]:
    """Requests to servers that run already: a table for each scan."""
    folder, (small, large) = options.work / "serve_peer", scans
    with ExitStack() as stack:
        servers = {name: stack.enter_context(program.server()) for name, program in programs.items()}
        window = in_turn(servers, small, folder, options.rounds, warm_up=COMPILED)
        ct = in_turn(servers, large, folder, options.rounds)
        meanwhile = {row.name: answer_meanwhile(servers[row.name], large, folder, row.median) for row in ct}
    ct = tuple(
        replace(
            row,
            facts={
                **row.facts,
                "peak memory": f"{servers[row.name].peak_gb:.2f} GB",
                "answers /info/ meanwhile in": duration(meanwhile[row.name]),
            },
        )
        for row in ct
    )
    shapes = (" × ".join(map(str, read_volume(scan).spatial_shape)) for scan in (small, large))
    titles = (f"Server: {what} of {shape}" for what, shape in zip(("a scan", "a CT"), shapes, strict=True))
    notes = ("From the upload of the scan to its mask, one client, servers that run already.", model_note(model))
    placed = (
        "Of several windows, masks differ: the servers place windows differently, and the network is barely trained."
    )
    return [
        Table("serve_peer_window", next(titles), window, notes=notes),
        Table("serve_peer_ct", next(titles), ct, notes=(*notes, placed)),
    ]


def model_note(model: Path) -> str:
    """The model and the precision in words."""
    plan = load_bundle(model).plan
    patch, spacing = (
        "×".join(f"{value:g}" for value in triple) for triple in (plan.patch_size, plan.preprocessing.spacing)
    )
    return (
        f"Patch {patch} at {spacing} mm, step 0.5, channels {plan.network.channels}, {len(plan.labels) - 1} labels, no "
        f"mirroring, cores: {cores()}. MONAI Label computes in fp32 unless stated, attunet in bf16 if the CPU has it."
    )


def answer_meanwhile(server: LabelServer, scan: Path, folder: Path, seconds: float) -> float:
    """Seconds in which a server answers /info/ in the middle of a request that takes that long."""
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(server.infer, scan, folder / "meanwhile.nrrd")
        time.sleep(seconds / 2)
        answered = server.info()
        request.result()
    return answered


def main() -> None:
    parser = argument_parser(__doc__, rounds=3)
    parser.add_argument("--env", type=Path, required=True, help="environment of MONAI Label, created if missing")
    parser.add_argument("--starts", type=int, default=3, help="starts of each server to measure")
    parser.add_argument("--page", action="store_true", help="add the tables to docs/benchmarks.md")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    model = served_model(options.work, quick=options.quick)
    small, large = one_window_scan(options.work), thick_ct(options.work, quick=options.quick)
    programs = programs_of(model, options)
    tables = [starts_table(programs, small, options), *request_tables(programs, model, (small, large), options)]
    complete = publish(tables, options)
    if options.page and not options.quick:
        update_page(complete)


if __name__ == "__main__":
    main()
