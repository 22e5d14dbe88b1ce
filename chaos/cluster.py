"""Kill nodes and drivers of a cluster that predicts real scans, one of which kills its worker, and compare every mask.

    python chaos/cluster.py [--scans 400] [--data ../shared/data]

Two nodes run on this machine. A node is killed in the middle of the first data set, the driver twice (kill -9); each
time the same command is started again. Every mask has to equal that of `attunet predict` on one machine, voxel by
voxel, and to be published once; the scan that kills its worker has to be reported after three tries.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from attunet.bundle import fold_folder, save_manifest, save_plan
from attunet.cluster.ledger import LEDGER, read_ledger
from attunet.cluster.prediction import CaseJob, CaseOutcome, PredictionWork, predict_on_engine
from attunet.cluster.ray_engine import RayEngine
from attunet.cluster.ray_worker import RayWorkers
from attunet.data.cases import find_cases, read_dataset
from attunet.data.formats import read_label
from attunet.inference.segmenter import Segmenter
from attunet.planning.options import PlanOptions
from attunet.planning.plan_dataset import plan_dataset

POISON = "poison"
PATIENCE = 300.0
"""Seconds without a change of the ledger after which the run is given up."""
SHARES = {"hippocampus": (0.59, 2), "nuclei": (0.375, 1), "Dataset101_SarcomaMR": (0.035, 1)}
"""Of each data set, its share of the scans, and how often each of its scans is taken."""


@dataclass
class Scans:
    """One data set of the run.

    Args:
        name: its name.
        model: the model that was trained on it.
        images: the folder of its scans, as they are predicted.
        expected: the folder of the masks of one machine.
        output: the folder of the masks of the cluster.
        kills: shares of the scans after which something is killed, and what.
    """

    name: str
    model: Path
    images: Path
    expected: Path
    output: Path
    kills: list[tuple[float, str]] = field(default_factory=list)

    def masks(self) -> dict[str, Path]:
        """The masks that are published."""
        return {path.name: path for path in sorted(self.output.glob("[!.]*")) if path.name != LEDGER and path.is_file()}


def main() -> int:
    """Run, print what happened, and return 1 when a scan was lost, altered or published twice."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scans", type=int, default=400)
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--driver", nargs=4, metavar=("MODEL", "IMAGES", "OUTPUT", "ADDRESS"), help="used by itself")
    given = options.parse_args()
    if given.driver:
        return drive(*map(Path, given.driver[:3]), given.driver[3])
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        sets = prepared(Path(folder), given.data, given.scans)
        home, rays = Path(folder) / "home", Path(folder) / "r"
        home.mkdir()
        rays.mkdir()
        os.environ |= {"HOME": str(home), "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(rays)}
        with two_nodes() as cluster:
            harm = [each for scans in sets for each in predicted(scans, cluster)]
        harm += [f"the home folder has {path}" for path in home.rglob("*")]
        harm += [f"process {line}" for line in processes(Path(folder))]
    print("\n".join(harm) or "no harm: every mask equals that of one machine, and was published once")
    return bool(harm)


def prepared(folder: Path, data: Path, count: int) -> list[Scans]:
    """Make a model for each data set, and predict its scans on this machine alone."""
    made = []
    for name, (share, times) in SHARES.items():
        images = folder / name / "images"
        images.mkdir(parents=True)
        source = sorted(path for path in images_of(data / name).iterdir() if path.is_file())
        wanted = max(1, round(share * count))
        for index in range(wanted):
            original = source[index % max(1, -(-wanted // times)) % len(source)]
            (images / f"{index:03d}_{original.name}").symlink_to(original.absolute())
        scans = Scans(name, folder / name / "model", images, folder / name / "expected", folder / name / "masks")
        write_random_model(data / name, scans.model)
        attunet("predict", "-m", scans.model, "-i", images, "-o", scans.expected)
        made.append(scans)
    made[0].kills = [(0.25, "node"), (0.5, "driver"), (0.75, "driver")]
    poison = min(made[0].images.iterdir())
    (made[0].images / f"{POISON}{''.join(poison.suffixes[-2:])}").symlink_to(poison.resolve())
    return made


def write_random_model(dataset: Path, model: Path) -> None:
    """A model as planned for a data set, with random weights: every voxel of its masks is close to a decision."""
    import torch

    from attunet.export.formats import export_openvino
    from attunet.nn import AttentionUNet, save_weights

    plan = plan_dataset(read_dataset(dataset), PlanOptions(size="small", cascade="off"))
    torch.manual_seed(0)
    network = AttentionUNet.from_config(plan.network).eval()
    save_plan(plan, model)
    save_weights(network, fold_folder(model, 0) / "weights.safetensors")
    export_openvino(network, plan, fold_folder(model, 0) / "graph.xml")
    save_manifest(model)


def images_of(dataset: Path) -> Path:
    """The folder of the images of a data set."""
    return next(path for path in (dataset / "imagesTr", dataset / "images") if path.is_dir())


def attunet(*words: object) -> None:
    """Run a command of attunet."""
    command = [sys.executable, "-m", "attunet", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """A cluster of two nodes on this machine."""
    cluster = Nodes()
    try:
        yield cluster
    finally:
        cluster.close()


class Nodes:
    """The nodes of a cluster: the first holds its state and does not die, the second may."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        how = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
        checks = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
        self._cluster = Cluster(initialize_head=True, head_node_args={**how, "_system_config": checks})
        self._how = how
        self.address = self._cluster.address
        self._second = self._cluster.add_node(**how)

    def kill(self) -> None:
        """Kill the second node, and put another in its place."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = self._cluster.add_node(**self._how)

    def close(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


def predicted(scans: Scans, cluster: Nodes) -> Iterator[str]:
    """Predict a data set on the cluster, kill what is to be killed, and say what went wrong."""
    total = len(list(scans.images.iterdir()))
    kills, published, known = list(scans.kills), dict[str, int](), 0
    driver = start_driver(scans, cluster)
    while (code := driver.poll()) is None:
        time.sleep(0.05)
        done = scans.masks()
        if kills and len(done) >= kills[0][0] * total:
            what = kills.pop(0)[1]
            print(f"{scans.name}: {what} killed after {len(done)} of {total} scans", flush=True)
            if what == "node":
                cluster.kill()
                continue
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            published |= {name: path.stat().st_mtime_ns for name, path in scans.masks().items()}
            known = (scans.output / LEDGER).stat().st_size
            driver = start_driver(scans, cluster)
    again = started_after(scans.output / LEDGER, known) & {name.split(".")[0] for name in published}
    yield from (f"{scans.name}: {name} was predicted again by a new driver" for name in sorted(again))
    yield from compared(scans, published, code, total)


def started_after(ledger: Path, size: int) -> set[str]:
    """The scans that a ledger says were started, in what was added to it after this size."""
    lines = ledger.read_bytes()[size:].splitlines()
    rows = [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
    return {row["case"] for row in rows if row["state"] == "running"}


def start_driver(scans: Scans, cluster: Nodes) -> subprocess.Popen[bytes]:
    """Start the run, or go on with it."""
    words = [sys.executable, __file__, "--driver", scans.model, scans.images, scans.output, cluster.address]
    return subprocess.Popen(list(map(str, words)))


def compared(scans: Scans, published: dict[str, int], code: int, total: int) -> Iterator[str]:
    """What is wrong with the masks of a data set, and with its ledger."""
    poisoned = any(path.name.startswith(POISON) for path in scans.images.iterdir())
    if code != poisoned:
        yield f"{scans.name}: exit code {code}"
    masks, expected = scans.masks(), {path.name: path for path in scans.expected.iterdir() if path.is_file()}
    if masks.keys() != expected.keys() - {path for path in expected if path.startswith(POISON)}:
        yield f"{scans.name}: {sorted(masks.keys() ^ expected.keys())} are missing or too many"
    for name in masks.keys() & expected.keys():
        if not np.array_equal(read_label(masks[name]).array, read_label(expected[name]).array):
            yield f"{scans.name}: {name} differs"
    yield from (
        f"{scans.name}: {name} was published again"
        for name, moment in published.items()
        if masks[name].stat().st_mtime_ns != moment
    )
    yield from (f"{scans.name}: {path.name} was left" for path in scans.output.glob(".attunet*"))
    rows = read_ledger(scans.output / LEDGER)
    states = {state: sum(row.state == state for row in rows.values()) for state in ("done", "failed", "lost")}
    again = sum(row.tries > 1 for row in rows.values())
    print(
        f"{scans.name}: {total} scans, {states['done']} done, {states['failed']} failed, {again} tried again",
        flush=True,
    )
    if poisoned:
        row = rows[POISON]
        print(f"  {POISON}: {row.state} after {row.tries} tries: {row.error}", flush=True)
        if (row.state, row.tries) != ("failed", 3):
            yield f"{scans.name}: the scan that kills its worker is {row.state} after {row.tries} tries"
    if states["done"] + states["failed"] != len(rows):
        yield f"{scans.name}: the ledger has unfinished scans: {json.dumps(states)}"


def processes(folder: Path) -> list[str]:
    """The processes that a cluster in a folder has left."""
    return [
        f"{process.pid} {' '.join(process.info['cmdline'])[:200]}"
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid()
    ]


def drive(model: Path, images: Path, output: Path, address: str) -> int:
    """Predict what is missing; a scan named poison kills the worker that predicts it."""

    def make_engine(work: PredictionWork, job_of: object, memory: int) -> RayEngine:
        def make() -> object:
            predict = work()

            def run(job: CaseJob) -> CaseOutcome:
                if job.case.id == POISON:
                    os.kill(os.getpid(), signal.SIGKILL)
                return predict(job)

            return run

        return RayEngine(make, job_of, RayWorkers(address=address, memory=memory))

    segmenter = Segmenter.load(model)
    work = PredictionWork(model=model, output=output, manifest=segmenter.manifest, cores=1)
    channels = segmenter.plan.channel_names
    cases = find_cases([images], len(channels), names=channels)
    results = predict_on_engine(segmenter, work, cases, make_engine, skip_existing=True)
    return int(any(result.error for result in results))


if __name__ == "__main__":
    sys.exit(main())
