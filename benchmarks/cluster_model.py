"""Prediction of an archive on many nodes: hours and cost by a closed formula, and by a simulation of the scheduler.

    python benchmarks/cluster_model.py [--seconds 30] [--price 0.70] [--storage 1.25] [--quick]

No scan is predicted. The simulation runs the scheduler of `attunet predict --engine ray` itself on a cluster with a
virtual clock (`attunet.cluster.simulation`): CTs of different sizes, nodes that fail at random, one storage that all
share. The defaults: a CT of 512 × 512 × 300 takes 30 s on two cores (docs/benchmarks.md); a node has 16 cores, so that
eight workers fit. Prices and the speed of the storage are examples: give your own.

The formula. A worker needs T = seconds + overhead for a scan. Nodes fail at a rate f, and are back after r. A scan that
is lost starts again, so that it costs a worker

    E = (exp(f T) - 1) (1 / f + r)          (a task restarted from its beginning after failures at a constant rate)

and M scans on N nodes with w workers take, when a scan moves b bytes and the storage B bytes a second in all,

    hours = start-up + M max(E / (N w), b / B).

More than N* = B T / (w b) nodes wait for the storage: they cost, and are no faster.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness import Row, Table
from results import argument_parser, publish

from attunet.cluster.scheduler import SchedulerPolicy, run_tasks
from attunet.cluster.simulation import SimulatedEngine, SimulatedNode, SimulatedTry
from attunet.cluster.tasks import Task, TaskEvent

SCANS, NODES = (10_000, 1_000_000), (1, 10, 100)
STORAGES = {
    "a disk behind one network card of 1 Gbit/s": 0.125e9,
    "a file server with 10 Gbit/s": 1.25e9,
    "a parallel file system with 50 Gbit/s": 6.25e9,
    "object storage, 100 Gbit/s together": 12.5e9,
}
"""Bytes a second that all nodes together read: examples."""
SPREAD = 0.4
"""Standard deviation of the logarithm of a scan's size: one in twenty is twice as large as the median, or larger."""
HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What is predicted, and where.

    Args:
        scans: number of scans.
        nodes: number of nodes.
        workers: workers of a node.
        seconds: that a worker needs for a scan of mean size, reading and writing included.
        overhead: seconds that the scheduler adds to a scan.
        startup: seconds until a worker has loaded its model.
        failures: of a node, in an hour.
        repair: seconds until a failed node is back.
        storage: bytes a second that all nodes together read and write.
        size: bytes of a scan of mean size, and its mask.
        price: of a node, for an hour.
    """

    scans: int
    nodes: int
    workers: int
    seconds: float
    overhead: float
    startup: float
    failures: float
    repair: float
    storage: float
    size: float
    price: float

    @property
    def formula_hours(self) -> float:
        """Hours by the closed formula."""
        time, rate = self.seconds + self.overhead, self.failures / HOUR
        effective = math.expm1(rate * time) * (1 / rate + self.repair) if rate else time
        slowest = max(effective / (self.nodes * self.workers), self.size / self.storage)
        return (self.startup + self.scans * slowest) / HOUR

    @property
    def useful_nodes(self) -> float:
        """The number of nodes above which the storage is the limit."""
        return self.storage * (self.seconds + self.overhead) / (self.workers * self.size)

    def cost(self, hours: float) -> float:
        """Of all nodes over these hours; a node under repair is paid, too."""
        return hours * self.nodes * self.price


def simulate(cluster: Cluster, seed: int = 0) -> tuple[float, int]:
    """Hours until the last scan is done, and how many tries were lost with their node."""
    rng = random.Random(seed)
    mean = math.exp(SPREAD**2 / 2)
    tasks = [Task(name=str(index), size=rng.lognormvariate(0, SPREAD) / mean) for index in range(cluster.scans)]
    storage_free, lost = 0.0, 0

    def work(task: Task, _node: str, now: float) -> SimulatedTry:
        """The storage serves one scan after another; its reading itself is part of the seconds of a scan."""
        nonlocal storage_free
        begin = max(storage_free, now)
        storage_free = begin + task.size * cluster.size / cluster.storage
        return SimulatedTry(begin - now + task.size * cluster.seconds + cluster.overhead)

    def failures() -> Iterator[tuple[float, str, float]]:
        time = 0.0
        while cluster.failures:
            time += rng.expovariate(cluster.failures * cluster.nodes / HOUR)
            yield time, f"n{rng.randrange(cluster.nodes)}", cluster.repair

    def count(event: TaskEvent) -> None:
        nonlocal lost
        lost += event.kind == "lost"

    nodes = {f"n{index}": SimulatedNode(workers=cluster.workers) for index in range(cluster.nodes)}
    engine = SimulatedEngine(nodes, work, failures=failures())
    policy = SchedulerPolicy(
        node_tries=100, patience=math.inf, poll=HOUR
    )  # every scan is done, however often nodes fail
    records = run_tasks(tasks, engine, policy, on_event=count)
    assert all(record.state == "done" for record in records)
    return (cluster.startup + engine.time()) / HOUR, lost


def row(cluster: Cluster, name: str) -> Row:
    """A cluster by formula and by simulation."""
    formula = cluster.formula_hours
    hours, lost = simulate(cluster)
    facts = {
        "formula": _hours(formula),
        "simulated": _hours(hours),
        "difference": f"{hours / formula - 1:+.1%}",
        "scans an hour": f"{cluster.scans / hours:,.0f}",
        "cost": f"{cluster.cost(hours):,.2f}",
        "for 1,000 scans": f"{cluster.cost(hours) / cluster.scans * 1000:.2f}",
        "tries lost with a node": f"{lost:,}",
    }
    return Row(name, (), facts)


def scans_table(cluster: Cluster, scans: Sequence[int], nodes: Sequence[int], *, quick: bool) -> Table:
    rows = [
        row(replace(cluster, scans=count, nodes=number), f"{count:,} CTs, {number} node{'s' * (number != 1)}")
        for count in scans
        for number in nodes
    ]
    notes = (
        f"A model, not a measurement: {cluster.seconds:g} s a scan, {cluster.overhead * 1000:g} ms of overhead, "
        f"{cluster.workers} workers a node that do not slow each other, {cluster.startup:g} s to start; a node fails "
        f"{cluster.failures:g} times in an hour and is back after {cluster.repair / 60:g} min; a scan and its mask are "
        f"{cluster.size / 1e6:g} MB, the storage moves {cluster.storage / 1e9:g} GB/s for all.",
        f"Example price: {cluster.price:.2f} for a node and hour, also while it is repaired. "
        f"Above {cluster.useful_nodes:.0f} nodes, this storage is the limit.",
        "Sizes of scans are log-normal; the simulated end waits for the last scan, the formula does not.",
    )
    name = f"cluster_model{'_quick' if quick else ''}"
    return Table(name, "An archive of CTs on a cluster: hours and cost on paper", tuple(rows), notes=notes)


def storage_table(cluster: Cluster, *, quick: bool) -> Table:
    rows = []
    for name, speed in STORAGES.items():
        limited = replace(cluster, storage=speed)
        formula, (hours, _) = limited.formula_hours, simulate(limited)
        facts = {
            "bytes a second": f"{speed / 1e9:g} GB",
            "nodes it can feed": f"{limited.useful_nodes:.0f}",
            "formula": _hours(formula),
            "simulated": _hours(hours),
            "difference": f"{hours / formula - 1:+.1%}",
            "nodes at work": f"{min(1.0, limited.useful_nodes / limited.nodes):.0%}",
            "cost": f"{limited.cost(hours):,.2f}",
        }
        rows.append(Row(name, (), facts))
    notes = (
        f"{cluster.scans:,} CTs on {cluster.nodes} nodes, otherwise as above; the speeds are examples.",
        "When the storage is the limit: start no more nodes than it can feed; let every node work where a part of the "
        "scans lies (a part of `--num-parts` for each server); read from object storage, which grows with its clients; "
        "store scans compressed. Masks are a hundredth of the scans: it does not matter where they are written.",
    )
    name = f"cluster_storage{'_quick' if quick else ''}"
    return Table(name, "Where shared storage becomes the limit", tuple(rows), notes=notes)


def _hours(hours: float) -> str:
    return f"{hours * 60:.1f} min" if hours < 2 else f"{hours:,.1f} h"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a worker for a scan of mean size")
    parser.add_argument("--overhead", type=float, default=0.03, help="seconds that the scheduler adds to a scan")
    parser.add_argument("--workers", type=int, default=8, help="workers of a node")
    parser.add_argument("--startup", type=float, default=15.0, help="seconds until a worker has loaded its model")
    parser.add_argument("--failures", type=float, default=0.02, help="of a node, in an hour")
    parser.add_argument("--repair", type=float, default=600.0, help="seconds until a failed node is back")
    parser.add_argument("--storage", type=float, default=1.25, help="GB a second that all nodes together read")
    parser.add_argument("--size", type=float, default=80.0, help="MB of a scan of mean size, and its mask")
    parser.add_argument("--price", type=float, default=0.70, help="of a node, for an hour")
    options = parser.parse_args()
    del options.rounds  # nothing is timed
    cluster = Cluster(
        scans=1000,
        nodes=100,
        workers=options.workers,
        seconds=options.seconds,
        overhead=options.overhead,
        startup=options.startup,
        failures=options.failures,
        repair=options.repair,
        storage=options.storage * 1e9,
        size=options.size * 1e6,
        price=options.price,
    )
    _publish(cluster, options)


def _publish(cluster: Cluster, options: argparse.Namespace) -> None:
    scans = (500, 5000) if options.quick else SCANS
    large = replace(cluster, scans=scans[0] * 10)
    tables = [
        scans_table(cluster, scans, NODES, quick=options.quick),
        storage_table(large, quick=options.quick),
    ]
    publish(tables, options)


if __name__ == "__main__":
    main()
