"""A worker process: takes jobs from the queue and runs them with the models of one device, until its server ends.

Whatever a scan does to it, the server lives on. It talks to the server in lines: of its input, which tell it to look
for jobs, to cancel one, or to stop, and whose end is that of the server; and of JSON on its output.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from attunet.errors import AttunetError, CancelledError
from attunet.failures import one_case
from attunet.serve.hints import client_hint
from attunet.serve.jobs import JobQueue
from attunet.serve.preload import preload
from attunet.serve.records import CONVERSION, Job
from attunet.serve.shelf import ModelShelf
from attunet.serve.sources import Source, Sources
from attunet.serve.store import FileStore, ResultFile

__all__ = ["JobWorker", "WorkerOrders", "main"]

SLOTS = 3
"""Jobs at a time: one more than in a batch, because each also waits for the disk. Large scans are predicted in turn."""
IDLE = 2.0
"""Seconds between two looks into the queue, if nobody says that there is a job."""
PAUSE = 0.1
"""Seconds between two reports of progress."""
QUIET = ("pydicom", "highdicom", "nibabel", "PIL", "matplotlib", "attunet")
"""Packages whose log may quote what identifies a patient."""

_SOURCE = "source"
"""Where a series of the PACS is kept, in the folder of its job."""


@dataclass(frozen=True, kw_only=True)
class WorkerOrders:
    """What a worker is told when it starts.

    Args:
        worker: its name, which no other has.
        data: folder of the server's data.
        models: model folders by name.
        device: as for `Segmenter.load`.
        max_memory: limit of its memory in bytes; None for no limit.
        studies: folder of the studies.
        pacs: URL of a DICOMweb service, from which series are fetched by their UIDs; None for none.
        grace: seconds that running jobs may take after a stop.
        warm: whether it loads its first model before a job needs it.
        inputs: the names of the channels of each model.
    """

    worker: str
    data: str
    models: dict[str, str]
    device: str
    max_memory: int | None
    studies: str
    pacs: str | None
    grace: float
    warm: bool = True
    inputs: dict[str, list[str]] = field(default_factory=dict)


class JobWorker:
    """Runs jobs. Args: its orders, and what reports to the server."""

    def __init__(self, orders: WorkerOrders, report: Any) -> None:
        self._orders, self._report = orders, report
        self._store = FileStore(Path(orders.data))
        self._queue = JobQueue(self._store.queue)
        models = {name: Path(folder) for name, folder in orders.models.items()}
        self._models = models
        self._shelf = ModelShelf(models, orders.device, orders.max_memory, on_load=self._tell_fault)
        self._sources = Sources(self._store, self._queue, orders.studies, orders.pacs, orders.inputs)
        self._wake, self._stopping, self._stopped = threading.Semaphore(0), threading.Event(), 0.0
        self._running: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def slots(self) -> int:
        """How many jobs it runs at a time; with a limit of memory one, whose needs are known only when it is read."""
        return SLOTS if self._orders.max_memory is None else 1

    def tell(self, line: str) -> None:
        """Obey a line of the server: `wake`, `cancel JOB` or `stop`."""
        word, _, key = line.strip().partition(" ")
        if word == "wake":
            self._wake.release()
        elif word == "cancel":
            with self._lock:
                event = self._running.get(key)
            if event is not None:
                event.set()
        elif word == "stop":
            self._stopped = time.monotonic()
            self._stopping.set()
            self._wake.release(self.slots())

    @property
    def overdue(self) -> bool:
        """Whether the time of grace after a stop has passed."""
        return self._stopping.is_set() and time.monotonic() - self._stopped > self._orders.grace

    def run(self) -> None:
        """Take jobs and run them, in this thread, until `stop`."""
        while not self._stopping.is_set():
            job = self._queue.take(self._orders.worker)
            if job is None:
                self._wake.acquire(timeout=IDLE)
            else:
                self._run(job)
                self._wake.release(self.slots() - 1)  # what waited because this one had to run alone

    def warm_up(self) -> None:
        """Load what the first job would wait for, unless it is there first; the server hears when this is over."""
        if self._orders.warm:
            self._report({"state": "warming"})
            preload(self._shelf, next(iter(self._models)), lambda: bool(self._running))
            self._report({"state": "warm"})

    def expire(self) -> None:
        """After a stop, and the time of grace: what is still running is put back into the queue."""
        with self._lock:
            for event in self._running.values():
                event.set()

    def _tell_fault(self, model: str, fault: str) -> None:
        self._report({"model": model, "fault": self._without_folders(model, fault)})

    def _without_folders(self, model: str, text: str) -> str:
        """A message in which a model is called by its name, and a study by that of its file."""
        text = text.replace(f"{self._models[model]}", model) if model in self._models else text
        return text.replace(f"{self._orders.studies}/", "")

    def _run(self, job: Job) -> None:
        cancelled = threading.Event()
        with self._lock:
            self._running[job.id] = cancelled
        if self._queue.job(job.id).cancelling:
            cancelled.set()
        self._report({"job": job.id, "state": "running"})
        work = self._store.work(f"{job.id}-{uuid4().hex[:8]}")
        try:
            state, ended = self._attempt(job, work, cancelled)
            if ended:
                self._report({"job": job.id, "state": state})
        finally:
            with self._lock:
                del self._running[job.id]
            shutil.rmtree(work, ignore_errors=True)

    def _attempt(self, job: Job, work: Path, cancelled: threading.Event) -> tuple[str, bool]:
        """Run a job, and record its end; its state, and whether it ended here."""
        try:
            with one_case():
                folder, size = self._computed(job, work, cancelled)
        except CancelledError:
            if self._queue.job(job.id).cancelling:
                return "cancelled", self._queue.finish(job, "cancelled")
            self._queue.put_back(job)
            return "queued", True
        except AttunetError as error:
            hidden = self._store.in_words(error.message, work / _SOURCE, job.scan)
            return "failed", self._queue.finish(job, "failed", error=(hidden, client_hint(error.hint)))
        ended = self._queue.finish(job, "done", folder=folder, size=size)
        if not ended:
            self._store.remove_results(folder)
        return "done", ended

    def _computed(self, job: Job, work: Path, cancelled: threading.Event) -> tuple[str, int]:
        source = self._sources.of(job, work / _SOURCE)

        def in_words(text: str) -> str:
            return self._without_folders(job.model, self._store.in_words(text, source.path, source.name))

        try:
            with one_case():
                if job.model == CONVERSION:
                    files = self._converted(source, work)
                else:
                    files = self._predicted(job, source, work, cancelled, in_words)
        except AttunetError as error:
            error.message, error.hint = in_words(error.message), in_words(error.hint)
            raise
        if cancelled.is_set():
            raise CancelledError("the job was cancelled")
        shutil.rmtree(work / _SOURCE, ignore_errors=True)
        return self._store.publish(work, files)

    def _predicted(
        self, job: Job, source: Source, work: Path, cancelled: threading.Event, in_words: Callable[[str], str]
    ) -> list[ResultFile]:
        from attunet.serve.prediction_job import JobRun

        return JobRun(
            model=job.model,
            folder=self._models.get(job.model, Path(job.model)),
            segmenter=self._shelf.get(job.model),
            scan=source.path,
            case=source.case,
            options=source.options,
            output=work,
            max_memory=self._orders.max_memory,
            progress=_Paced(self._report, job.id),
            cancelled=cancelled,
            in_words=in_words,
        ).run()

    def _converted(self, source: Source, work: Path) -> list[ResultFile]:
        from attunet.data.cases import Case
        from attunet.serve.conversion import convert

        return convert(source.case or Case("image", (source.path,), None), source.options.series, work)


class _Paced:
    """Reports the progress of a job, not more often than anybody can see. Args: what reports, and the job."""

    def __init__(self, report: Any, job: str) -> None:
        self._send, self._job, self._last = report, job, 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= PAUSE or done >= total:
            self._last = now
            self._send({"job": self._job, "done": done, "total": total})


def main() -> None:
    """Entry point of the process: the first line of its input is its orders."""
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print does not reach the server
    warnings.simplefilter("ignore")  # pydicom's quote values
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sending = threading.Lock()

    def report(message: dict[str, Any]) -> None:
        with sending:
            output.write(json.dumps(message) + "\n")

    worker = JobWorker(WorkerOrders(**json.loads(sys.stdin.readline())), report)
    report({"state": "ready"})
    slots = [
        threading.Thread(target=worker.run, name=f"slot {number}", daemon=True) for number in range(worker.slots())
    ]
    for slot in slots:
        slot.start()
    threading.Thread(target=worker.warm_up, name="warm-up", daemon=True).start()
    _obey(worker, slots)


def _obey(worker: JobWorker, slots: list[threading.Thread]) -> None:
    """Read the server's lines; at their end, the server is gone, and so is this process at once."""
    threading.Thread(target=_listen, args=(worker,), daemon=True).start()
    while any(slot.is_alive() for slot in slots):
        for slot in slots:
            slot.join(timeout=0.2)
        if worker.overdue:
            worker.expire()
    os._exit(0)


def _listen(worker: JobWorker) -> None:
    for line in sys.stdin:
        worker.tell(line)
    os._exit(1)


if __name__ == "__main__":
    main()
