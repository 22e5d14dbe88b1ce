"""Workers that die are started again, and who waits for a job hears of it."""

import asyncio
import dataclasses
import os
import shutil
import signal

import pytest

from attunet.serve.jobs import JobQueue
from attunet.serve.settings import ServeSettings
from attunet.serve.store import FileStore, Upload
from attunet.serve.supervisor import Supervisor


@pytest.fixture
def parts(tmp_path, gated, scan_file):
    """The settings, the files, the queue, and a scan."""
    settings = ServeSettings(models={"organs": gated}, data=tmp_path / "data", tries=2, grace=5)
    store = FileStore(settings.data)
    queue = JobQueue(store.queue)
    folder = store.receive()
    (folder / "0").write_bytes(scan_file.read_bytes())
    scan = store.keep(folder, [Upload(folder / "0", "x.nii.gz", scan_file.stat().st_size)])
    queue.add_scan(scan)
    yield settings, store, queue, scan
    queue.close()


async def until(met):
    async with asyncio.timeout(90):
        while not met():
            await asyncio.sleep(0.02)


@pytest.mark.integration
def test_a_job_that_kills_its_worker_twice_has_failed_and_others_are_done(parts):
    settings, store, queue, scan = parts
    ended = []

    async def run():
        workers = Supervisor(settings, store, queue, str(settings.data), {}, ended.append)
        workers.start()
        poison = queue.submit(scan.id, "organs", {"step_size": 0.01})
        for _ in range(2):
            await until(lambda: workers.progress(poison.id)[0] > 0)
            os.kill(workers.pids[0], signal.SIGKILL)
            await until(lambda: workers.progress(poison.id) == (0, 0))
        states = []
        async for _ in workers.changes(poison.id):
            states.append(queue.job(poison.id).state)
            if states[-1] == "failed":
                break
        good = queue.submit(scan.id, "organs", {})
        workers.wake()
        await until(lambda: queue.job(good.id).state == "done")
        await until(lambda: ended == [poison.id, good.id])
        assert workers.ready
        await workers.stop()
        assert not workers.ready
        assert workers.pids == []
        return poison

    poison = asyncio.run(run())
    assert "died 2 times" in queue.job(poison.id).reason
    assert queue.job(poison.id).ends == 1


def test_a_model_that_cannot_be_loaded_is_told_once_and_jobs_of_others_are_done(parts, gated, tmp_path, caplog):
    settings, store, queue, scan = parts
    broken = shutil.copytree(gated, tmp_path / "secret folder" / "broken")
    graph = next(broken.rglob("graph.bin"))
    content = graph.read_bytes()
    graph.write_bytes(b"")
    settings = dataclasses.replace(settings, models={"broken": broken, "organs": gated})

    def told():
        return [record.message for record in caplog.records if "cannot be used" in record.message]

    async def run():
        workers = Supervisor(settings, store, queue, str(settings.data), {})
        workers.start()
        await until(lambda: "broken" in workers.faults)
        assert workers.ready
        jobs = [queue.submit(scan.id, model, {}) for model in ("broken", "organs")]
        workers.wake()
        await until(lambda: [queue.job(job.id).state for job in jobs] == ["failed", "done"])
        assert workers.faults.keys() == {"broken"}
        assert len(told()) == 1
        assert str(tmp_path) not in told()[0] + workers.faults["broken"]
        graph.write_bytes(content)
        again = queue.submit(scan.id, "broken", {})
        workers.wake()
        await until(lambda: queue.job(again.id).state == "done")
        await until(lambda: not workers.faults)
        await workers.stop()

    asyncio.run(run())


@pytest.mark.integration
def test_a_worker_that_died_while_it_warmed_up_is_followed_by_one_that_does_not(parts):
    settings, store, queue, scan = parts

    async def run():
        workers = Supervisor(settings, store, queue, str(settings.data), {})
        workers.start()
        await until(lambda: workers.warming)
        os.kill(workers.pids[0], signal.SIGKILL)
        await until(lambda: not workers.ready)
        await until(lambda: workers.ready)
        assert not workers.warming
        job = queue.submit(scan.id, "organs", {})
        workers.wake()
        await until(lambda: queue.job(job.id).state == "done")
        assert not workers.warming
        await workers.stop()

    asyncio.run(run())


@pytest.mark.integration
def test_whatever_goes_wrong_with_a_worker_another_one_follows(parts, monkeypatch):
    settings, store, queue, scan = parts
    spawn, recover, faults = asyncio.create_subprocess_exec, queue.recover, [OSError(), OSError()]

    async def failing(*words, **how):
        if faults:
            raise faults.pop()
        return await spawn(*words, **how)

    def ended(_job):
        raise ValueError

    async def run():
        workers = Supervisor(settings, store, queue, str(settings.data), {}, ended)
        workers.start()
        await until(lambda: workers.ready)
        assert not faults
        (first,) = workers.pids
        faults.append(OSError())
        monkeypatch.setattr(queue, "recover", lambda *given: recover(*given) if not faults else fail())
        job = queue.submit(scan.id, "organs", {})
        workers.wake()
        await until(lambda: workers.ready and first not in workers.pids)
        assert queue.job(job.id).state == "done"
        await workers.stop()

    def fail():
        raise faults.pop()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", failing)
    monkeypatch.setattr("attunet.serve.supervisor.LONGEST_PAUSE", 0.2)
    asyncio.run(run())
