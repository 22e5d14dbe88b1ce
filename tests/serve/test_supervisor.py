"""Workers that die are started again, and who waits for a job hears of it."""

import asyncio
import os
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


def test_a_job_that_kills_its_worker_twice_has_failed_and_others_are_done(parts):
    settings, store, queue, scan = parts
    ended = []

    async def run():
        workers = Supervisor(settings, store, queue, str(settings.data), ended.append)
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
