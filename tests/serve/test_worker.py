"""A worker, told by lines and asked by lines."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from attunet.serve.jobs import JobQueue
from attunet.serve.store import FileStore, Upload
from attunet.serve.worker import WorkerOrders


@pytest.fixture
def queue(tmp_path, scan_file):
    """A queue with one scan."""
    store = FileStore(tmp_path / "data")
    opened = JobQueue(store.queue)
    folder = store.receive()
    (folder / "0").write_bytes(scan_file.read_bytes())
    opened.scan_id = store.keep(folder, [Upload(folder / "0", "x.nii.gz", scan_file.stat().st_size)])
    opened.add_scan(opened.scan_id)
    yield opened
    opened.close()


@pytest.fixture
def worker(tmp_path, gated):
    orders = WorkerOrders(
        worker="w",
        data=str(tmp_path / "data"),
        models={"organs": str(gated)},
        device="auto",
        max_memory=None,
        studies=str(tmp_path / "studies"),
        pacs=None,
        grace=5.0,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "attunet.serve.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    process.stdin.write(json.dumps(asdict(orders)) + "\n")
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def until(process, met):
    """What a worker says, up to a message that is awaited."""
    said = []
    for line in process.stdout:
        said.append(json.loads(line))
        if met(said[-1]):
            return said
    raise AssertionError(said)


def test_jobs_are_run_one_after_the_other_and_ended(worker, queue):
    first = queue.submit(queue.scan_id.id, "organs", {})
    until(worker, lambda message: message == {"job": first.id, "state": "done"})
    assert queue.job(first.id).state == "done"
    wrong = queue.submit(queue.scan_id.id, "other", {})
    worker.stdin.write("wake\n")
    until(worker, lambda message: message == {"job": wrong.id, "state": "failed"})
    assert "no model other" in queue.job(wrong.id).reason


def test_a_job_is_cancelled_by_a_line(worker, queue):
    until(worker, lambda message: message.get("state") == "ready")
    job = queue.submit(queue.scan_id.id, "organs", {"step_size": 0.02})
    worker.stdin.write("wake\n")
    until(worker, lambda message: message.get("done", 0) > 0)
    queue.cancel(job.id)
    worker.stdin.write(f"cancel {job.id}\n")
    until(worker, lambda message: message == {"job": job.id, "state": "cancelled"})
    assert queue.job(job.id).ends == 1


def test_a_stop_puts_back_what_does_not_finish_in_time(tmp_path, worker, queue):
    job = queue.submit(queue.scan_id.id, "organs", {"step_size": 0.01})
    until(worker, lambda message: message.get("done", 0) > 0)
    worker.stdin.write("stop\n")
    assert worker.wait(60) == 0
    assert queue.job(job.id).state in ("queued", "done")
    assert queue.job(job.id).tries == 0


def test_the_end_of_its_input_ends_it_at_once(worker, queue):
    job = queue.submit(queue.scan_id.id, "organs", {"step_size": 0.01})
    until(worker, lambda message: message.get("state") == "running")
    worker.stdin.close()
    assert worker.wait(20) == 1
    assert queue.job(job.id).state in ("running", "done")


def test_the_first_model_is_loaded_before_a_job_comes(worker):
    said = until(worker, lambda message: message.get("state") == "warm")
    assert said == [{"state": "ready"}, {"state": "warming"}, {"model": "organs", "fault": ""}, {"state": "warm"}]
