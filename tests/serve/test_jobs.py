"""The queue: each job ends once, whoever dies."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from attunet.errors import BusyError, DatasetError
from attunet.serve.jobs import JobQueue
from attunet.serve.records import CONVERSION, Scan


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(tmp_path, clock):
    opened = JobQueue(tmp_path / "queue.sqlite", 3, clock)
    opened.add_scan(Scan(id="scan", name="x.nii", path="scan.nii", files=1, bytes=10, created=clock.now))
    yield opened
    opened.close()


def submit(queue):
    return queue.submit("scan", "model", {"outputs": []})


def test_jobs_are_taken_in_order_and_end(queue):
    first, second = submit(queue), submit(queue)
    assert (taken := queue.take("w")).id == first.id
    assert queue.job(first.id).state == "running"
    assert queue.finish(taken, "done", folder="f", size=5)
    ended = queue.job(first.id)
    assert (ended.state, ended.ends, ended.folder, ended.bytes) == ("done", 1, "f", 5)
    assert queue.take("w").id == second.id
    assert queue.take("w") is None
    assert queue.counts() == {"queued": 0, "running": 1, "done": 1, "failed": 0, "cancelled": 0}
    assert queue.bytes() == 15


def test_many_workers_never_take_one_job_twice(tmp_path):
    queues = [JobQueue(tmp_path / "queue.sqlite", 1000) for _ in range(4)]
    jobs = {queues[0].submit("scan", "model", {}).id for _ in range(60)}

    def work(number):
        taken = []
        while (job := queues[number].take(f"w{number}")) is not None:
            taken.append(job.id)
            assert queues[number].finish(job, "done")
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [key for keys in pool.map(work, range(4)) for key in keys]
    assert len(taken) == 60
    assert set(taken) == jobs
    assert all(queues[0].job(key).ends == 1 for key in jobs)
    for queue in queues:
        queue.close()


def test_a_worker_that_comes_back_late_ends_nothing(queue):
    submit(queue)
    late = queue.take("dead")
    (again,) = queue.recover("dead", 3)
    assert (again.state, again.tries) == ("queued", 1)
    taken = queue.take("alive")
    assert not queue.finish(late, "done", folder="of the dead")
    queue.put_back(late)
    assert queue.job(taken.id).worker == "alive"
    assert queue.finish(taken, "done")
    assert not queue.finish(taken, "failed")
    assert queue.job(taken.id).ends == 1


def test_a_job_that_kills_its_workers_fails_and_one_of_a_killed_server_does_not(queue):
    job = submit(queue)
    for _ in range(5):
        queue.take("w")
        (recovered,) = queue.recover()
    assert (recovered.state, recovered.tries) == ("queued", 0)
    for death in range(3):
        queue.take(f"w{death}")
        (recovered,) = queue.recover(f"w{death}", 3)
    assert (recovered.state, recovered.ends) == ("failed", 1)
    assert "died 3 times" in queue.job(job.id).reason


def test_a_job_is_cancelled_while_it_waits_runs_or_its_worker_dies(queue):
    waiting = submit(queue)
    assert queue.cancel(waiting.id).state == "cancelled"
    assert queue.cancel(waiting.id).ends == 1
    running = submit(queue)
    taken = queue.take("w")
    assert queue.cancel(running.id).cancelling
    (ended,) = queue.recover("w", 3)
    assert (ended.state, ended.ends) == ("cancelled", 1)
    assert not queue.finish(taken, "done")


def test_a_full_queue_takes_no_more(queue):
    for _ in range(3):
        submit(queue)
    with pytest.raises(BusyError, match="3 jobs are waiting"):
        submit(queue)


def test_what_is_old_and_unused_is_forgotten(queue, clock):
    job = submit(queue)
    taken = queue.take("w")
    clock.now += 100
    assert queue.expire(50) == ([], [])
    queue.finish(taken, "done", folder="f")
    assert not queue.remove_scan("none")
    clock.now += 100
    assert queue.expire(50) == (["f"], ["scan"])
    with pytest.raises(DatasetError, match="no such job"):
        queue.job(job.id)


def test_a_scan_that_a_job_needs_stays(queue):
    submit(queue)
    assert not queue.remove_scan("scan")
    queue.finish(queue.take("w"), "failed", error=("broken", "repair it"))
    assert queue.remove_scan("scan")
    assert queue.jobs()[0].reason == "broken"
    assert queue.remove_job(queue.jobs()[0].id) == ""
    assert queue.jobs() == []


def test_a_conversion_is_taken_first_and_is_no_prediction(queue):
    prediction, conversion = (queue.submit("s", model, {}) for model in ("organs", CONVERSION))
    assert queue.conversion("other") is None
    assert [job.id for job in queue.jobs()] == [prediction.id]
    assert queue.take("w").id == queue.conversion("s").id == conversion.id
    assert queue.take("w").id == prediction.id
    assert queue.finish(queue.job(conversion.id), "failed")
    assert queue.conversion("s") is None


def test_a_job_whose_worker_died_runs_alone_and_others_do_not_fail_with_it(queue):
    poison, *others = (submit(queue) for _ in range(3))
    for worker in range(20):
        running = []
        while (job := queue.take(f"w{worker}")) is not None:
            running.append(job.id)
        if not running:
            break
        if poison.id in running:
            queue.recover(f"w{worker}", tries=3)
        else:
            for key in running:
                assert queue.finish(queue.job(key), "done")
    assert queue.job(poison.id).state == "failed"
    assert [queue.job(job.id).state for job in others] == ["done", "done"]
    assert max(queue.job(job.id).tries for job in others) == 1


def test_what_has_to_run_alone_is_not_overtaken_for_ever(queue):
    first, second = submit(queue), submit(queue)
    assert queue.take("w").id == first.id
    queue.recover("w", tries=3)
    running = queue.take("v")
    assert running.id == first.id
    assert queue.take("v") is None
    assert queue.take("u").id == second.id
    queue.recover("v", tries=3)
    assert queue.take("u") is None
    assert queue.finish(queue.job(second.id), "done")
    assert queue.take("u").id == first.id
