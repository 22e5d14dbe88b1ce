"""Ray on this machine, two nodes: workers and nodes die, and every task is answered once. About half a minute."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter

import numpy as np
import psutil
import pytest

from attunet.cluster.ledger import LEDGER, read_ledger
from attunet.cluster.prediction import PredictionWork, predict_on_engine
from attunet.cluster.ray_engine import RayEngine
from attunet.cluster.ray_worker import RayWorkers
from attunet.cluster.scheduler import run_tasks
from attunet.cluster.tasks import Task
from attunet.data.cases import find_cases
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume
from attunet.errors import EngineError
from attunet.inference.batch import predict_cases
from attunet.inference.segmenter import Segmenter

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="nodes are killed as on Linux"),
]

NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
CHECKS = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


class TwoNodes:
    """A cluster of which the second node may be killed."""

    def __init__(self, cluster):
        self._cluster = cluster
        self.address = cluster.address
        self.second = cluster.add_node(**NODE)

    def kill_second(self):
        self._cluster.remove_node(self.second, allow_graceful=False)

    def name_of_second(self):
        return f"-{self.second.node_id[:6]}"

    def replace_second(self):
        self.second = self._cluster.add_node(**NODE)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    import tempfile

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": CHECKS})
        try:
            yield TwoNodes(cluster)
        finally:
            cluster.shutdown()
        assert not list(os.scandir(os.environ["HOME"]))
    assert not [each for each in psutil.process_iter(["cmdline"]) if folder in " ".join(each.info["cmdline"] or ())]


@pytest.fixture
def engine_of(nodes):
    """`engine_of(make, payloads, **workers)`: an engine on the two nodes, closed at the end."""
    made = []

    def start(make, payload, **how):
        notices = how.pop("on_notice", lambda _: None)
        made.append(RayEngine(make, payload, RayWorkers(address=nodes.address, **how), on_notice=notices))
        return made[-1]

    yield start
    for engine in made:
        engine.close()


def make_answers():
    """Made in a worker: it answers, refuses, or ends its process, as the payload says."""
    import os
    import time

    from attunet.errors import DataError

    def answer(payload):
        if payload == "refuse":
            raise DataError("no image", hint="look at it")
        if payload == "fail":
            raise RuntimeError("a bug")
        if isinstance(payload, int):
            os.kill(os.getpid(), payload)
        time.sleep(payload)
        return os.getpid()

    return answer


def by_value(function):
    """Workers cannot import this file."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
    return function


def test_each_task_is_answered_once_whatever_dies(nodes, engine_of):
    payloads = {f"good{index}": 0.05 for index in range(20)} | {
        "refused": "refuse",
        "failed": "fail",
        "poison": int(signal.SIGKILL),
    }
    engine = engine_of(by_value(make_answers), payloads.get)
    events = []
    records = {record.task: record for record in run_tasks(map(_task, payloads), engine, on_event=events.append)}
    assert {name: record.state for name, record in records.items()} == {
        name: "done" if name.startswith("good") else "failed" for name in payloads
    }
    assert (records["refused"].reason, records["refused"].hint, records["refused"].tries) == (
        "no image",
        "look at it",
        1,
    )
    assert "unforeseen RuntimeError: a bug" in records["failed"].reason
    assert records["poison"].tries == 3
    assert "killed or crashed" in records["poison"].reason
    ends = Counter(event.task for event in events if event.kind in ("done", "failed"))
    assert set(ends.values()) == {1}
    assert len({event.node for event in events if event.kind == "done"}) == 2
    assert len({records[name].value for name in records if name.startswith("good")}) <= 5  # workers, not one each


def _task(name):
    return Task(name=name, size=1.0)


def test_tasks_of_a_node_that_dies_go_on_elsewhere(nodes, engine_of):
    payloads = {f"task{index}": 0.5 for index in range(8)}
    engine = engine_of(by_value(make_answers), payloads.get)
    events, killed = [], []

    def watch(event):
        events.append(event)
        if event.kind == "started" and event.node.endswith(nodes.name_of_second()) and not killed:
            killed.append(event.node)
            nodes.kill_second()

    records = run_tasks(map(_task, payloads), engine, on_event=watch)
    assert {record.state for record in records} == {"done"}
    lost = [event for event in events if event.kind == "lost"]
    assert [event.attempt.lost for event in lost] == ["node"]
    assert killed[0] in lost[0].reason
    assert len(engine.nodes()) == 1
    nodes.replace_second()
    deadline = time.monotonic() + 20
    while len(engine.nodes()) < 2 and time.monotonic() < deadline:
        engine.wait(0.2)
    assert len(engine.nodes()) == 2


def test_no_node_is_promised_to_more_than_it_holds(nodes, engine_of):
    payloads = {"a": 0.0, "b": 0.0}
    engine = engine_of(by_value(make_answers), payloads.get, memory=2**30)
    assert sum(engine.nodes().values()) == 2
    assert engine.refusal(Task(name="a", size=1.0, memory=2**29)) == ""
    assert "about 2.0 GB" in engine.refusal(Task(name="a", size=1.0, memory=2**31))
    with pytest.raises(EngineError, match="no node has room"):
        engine_of(by_value(make_answers), payloads.get, cpus=64)


def test_a_worker_that_cannot_begin_is_one_error(nodes, engine_of):
    def make():
        from attunet.errors import BundleError

        raise BundleError("no such model", hint="look for it")

    notices = []
    engine = engine_of(make, {"a": 0.0}.get, on_notice=notices.append)
    with pytest.raises(EngineError, match="no such model"):
        run_tasks([_task("a")], engine)
    assert len(notices) == 2


@pytest.fixture
def scans(tmp_path):
    for index in range(6):
        array = np.random.default_rng(index).normal(100, 30, (1, 20 + index, 16, 10)).astype(np.int16)
        write_volume(Volume(array, np.eye(4)), tmp_path / "scans" / f"scan{index}.nii.gz")
    write_volume(Volume(array, np.eye(4)), tmp_path / "scans" / "poison.nii.gz")
    return find_cases([tmp_path / "scans"], 1)


@pytest.mark.slow
def test_masks_equal_those_of_one_machine_and_a_poison_case_is_reported(nodes, engine_of, tiny_run, scans, tmp_path):
    segmenter = Segmenter.load(tiny_run, folds=[0], device="cpu")
    work = PredictionWork(model=tiny_run, output=tmp_path / "masks", folds=[0], device="cpu", cores=1)

    def make_engine(work, job_of, memory):
        def make():
            predict = work()

            def run(job):
                if job.case.id == "poison":
                    os.kill(os.getpid(), signal.SIGKILL)
                return predict(job)

            return run

        return engine_of(make, job_of, memory=memory)

    results = {result.case: result for result in predict_on_engine(segmenter, work, scans, make_engine)}
    good = [case for case in scans if case.id != "poison"]
    for expected in predict_cases(segmenter, good, tmp_path / "expected"):
        masks = [read_label(tmp_path / folder / f"{expected.case}.nii.gz").array for folder in ("masks", "expected")]
        np.testing.assert_array_equal(*masks)
        assert results[expected.case].volumes_ml == expected.volumes_ml
    assert "lost 3 workers" in results["poison"].error
    rows = read_ledger(tmp_path / "masks" / LEDGER)
    assert (rows["poison"].state, rows["poison"].tries) == ("failed", 3)
    assert {row.state for name, row in rows.items() if name != "poison"} == {"done"}
    assert min(row.peak_bytes for name, row in rows.items() if name != "poison") > 2**25
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == sorted(
        [LEDGER, *(f"{case.id}.nii.gz" for case in good)]
    )


def test_after_a_cancellation_what_runs_ends_and_nothing_starts(nodes, engine_of):
    payloads = {f"task{index}": 0.3 for index in range(10)}
    engine = engine_of(by_value(make_answers), payloads.get)
    cancelled = threading.Event()
    records = run_tasks(map(_task, payloads), engine, on_event=lambda _: cancelled.set(), cancelled=cancelled)
    assert Counter(record.state for record in records)["stopped"] >= 8
    assert all(record.state in ("done", "stopped") for record in records)
