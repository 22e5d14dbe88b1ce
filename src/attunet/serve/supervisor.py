"""The workers of a server: one process for each device, started again when it dies; and who waits for which job."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from uuid import uuid4

from attunet.serve.jobs import JobQueue
from attunet.serve.records import ENDED
from attunet.serve.settings import ServeSettings
from attunet.serve.store import FileStore
from attunet.serve.worker import WorkerOrders

__all__ = ["Progress", "Supervisor"]

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before a worker that died is started again, longer each time that it dies before it was ready."""
_log = logging.getLogger(__name__)

Progress = tuple[int, int]
"""Finished and all windows of a job."""


class Supervisor:
    """Starts workers, hears what they report, and wakes whoever waits for a job.

    Args:
        settings: of the server.
        store: the files.
        queue: the jobs.
        studies: folder of the studies.
        inputs: the names of the channels of each model.
        on_end: called with each job that ended.
    """

    def __init__(
        self,
        settings: ServeSettings,
        store: FileStore,
        queue: JobQueue,
        studies: str,
        inputs: Mapping[str, Sequence[str]],
        on_end: Callable[[str], None] = lambda _job: None,
    ) -> None:
        self._settings, self._store, self._queue, self._studies = settings, store, queue, studies
        self._inputs = {model: list(names) for model, names in inputs.items()}
        self._on_end = on_end
        self._processes: dict[str, Process] = {}
        self._ready: set[str] = set()
        self._warming: set[str] = set()
        self._faults: dict[tuple[str, str], str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._progress: dict[str, Progress] = {}
        self._changed: dict[str, list[asyncio.Event]] = {}
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def ready(self) -> bool:
        """Whether a worker takes jobs."""
        return bool(self._ready) and not self._stopping

    @property
    def stopping(self) -> bool:
        """Whether no more jobs are started."""
        return self._stopping

    @property
    def warming(self) -> bool:
        """Whether a worker loads what its first job would wait for."""
        return bool(self._warming)

    @property
    def faults(self) -> dict[str, str]:
        """Models that a worker could not load when it last tried, and why."""
        return {model: fault for (_, model), fault in self._faults.items() if fault}

    @property
    def pids(self) -> list[int]:
        """The processes of the workers."""
        return [process.pid for process in self._processes.values() if process.returncode is None]

    def start(self) -> None:
        """Start a worker for each device, within the running loop."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._keep_alive(device)) for device in self._settings.devices]

    async def stop(self) -> None:
        """Let running jobs finish within the time of grace; those that do not are put back into the queue."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        self._say("stop")
        for process in list(self._processes.values()):
            try:
                await asyncio.wait_for(process.wait(), self._settings.grace + 5)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        for events in list(self._changed.values()):
            for event in events:
                event.set()

    def wake(self) -> None:
        """Tell the workers that a job waits; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._say, "wake")

    def cancel(self, job: str) -> None:
        """Tell the workers to stop a job, and those who wait for it that it may have changed; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._say, f"cancel {job}")
            self._loop.call_soon_threadsafe(self._tell, job)

    def progress(self, job: str) -> Progress:
        """Finished and all windows of a job; zeros when they are unknown."""
        return self._progress.get(job, (0, 0))

    async def changes(self, job: str) -> AsyncIterator[None]:
        """Yields at once, and then whenever something about a job may have changed, until the server stops."""
        event = asyncio.Event()
        self._changed.setdefault(job, []).append(event)
        try:
            yield
            while not self._stopping:
                with suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), 10)
                event.clear()
                yield
        finally:
            self._changed[job].remove(event)
            if not self._changed[job]:
                del self._changed[job]

    async def _keep_alive(self, device: str) -> None:
        """Run a worker, and another one when it dies, whatever goes wrong meanwhile."""
        pause, warm = FIRST_PAUSE, True
        while not self._stopping:
            worker = f"{device}-{uuid4().hex[:12]}"
            try:
                process = await self._spawn(worker, device, warm=warm)
                await self._listen(process, worker, device)
            except Exception as error:  # such as no memory for a process
                _log.error("a worker of %s cannot be run: %s", device, type(error).__name__)
                if worker in self._processes:
                    with suppress(ProcessLookupError):
                        self._processes[worker].kill()
            if worker in self._warming:  # which may be what ended it, and would end each one
                self._warming.discard(worker)
                warm = False
            was_ready = worker in self._ready
            await self._bury(worker, device)
            await asyncio.sleep(pause)
            pause = FIRST_PAUSE if was_ready else min(LONGEST_PAUSE, pause * 2)

    async def _bury(self, worker: str, device: str) -> None:
        """Wait for the end of a worker, and give back what it ran, as soon as the queue can be written."""
        self._ready.discard(worker)
        if worker not in self._processes:
            return
        code = await self._processes[worker].wait()
        del self._processes[worker]
        while True:
            try:
                jobs = await asyncio.to_thread(self._queue.recover, worker, self._settings.tries)
                break
            except Exception as error:  # such as a disk without room
                _log.error("the jobs of a dead worker cannot be given back yet: %s", type(error).__name__)
                await asyncio.sleep(LONGEST_PAUSE)
        for job in jobs:
            _log.warning("job %s: its worker died; it is %s", job.id, job.state)
            self._changed_state(job.id, job.state)
        _log.warning("a worker of %s died (%s) and is started again", device, _why(code))

    async def _spawn(self, worker: str, device: str, *, warm: bool) -> Process:
        settings = self._settings
        temporary = settings.data / "work"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "attunet.serve.worker",
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,  # libraries write what they find in scans
            env={**os.environ, "TMPDIR": str(temporary.absolute())},
            process_group=0,  # Ctrl-C is for the server, which lets the worker finish
        )
        self._processes[worker] = process
        orders = WorkerOrders(
            worker=worker,
            data=str(settings.data),
            models={name: str(folder) for name, folder in settings.models.items()},
            device=device,
            max_memory=settings.max_memory,
            studies=self._studies,
            pacs=settings.pacs,
            grace=settings.grace,
            warm=warm,
            inputs=self._inputs,
        )
        assert process.stdin is not None
        with suppress(ConnectionError):
            process.stdin.write(json.dumps(asdict(orders)).encode() + b"\n")
            await process.stdin.drain()
        return process

    async def _listen(self, process: Process, worker: str, device: str) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            try:
                message = json.loads(line)
            except ValueError:  # a line that broke off
                continue
            job, state = message.get("job"), message.get("state")
            if "model" in message:
                self._loaded(device, message["model"], message["fault"])
            elif job is None:
                self._ready.add(worker)
                (self._warming.add if state == "warming" else self._warming.discard)(worker)
            elif state is None:
                self._progress[job] = message["done"], message["total"]
                self._tell(job)
            else:
                self._changed_state(job, state)

    def _loaded(self, device: str, model: str, fault: str) -> None:
        """Tell the log, once, that a model cannot be loaded, and when it can be again."""
        before, self._faults[device, model] = self._faults.get((device, model), ""), fault
        if fault and fault != before:
            _log.error("model %s cannot be used: %s", model, fault)
        elif before and not fault:
            _log.info("model %s can be used again", model)

    def _changed_state(self, job: str, state: str) -> None:
        if state in ENDED:
            self._on_end(job)
        if state != "running":
            self._progress.pop(job, None)
        self._tell(job)

    def _tell(self, job: str) -> None:
        for event in self._changed.get(job, ()):
            event.set()

    def _say(self, line: str) -> None:
        for process in self._processes.values():
            if process.stdin is not None and process.returncode is None:
                with suppress(ConnectionError, RuntimeError):
                    process.stdin.write(line.encode() + b"\n")


def _why(code: int) -> str:
    """Why a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
