"""`Service`: what the routes of a server ask for: models, scans, jobs and results, whatever protocol they speak."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from attunet.bundle import load_model
from attunet.dicom.network.identity import is_uid
from attunet.errors import BusyError, CancelledError, ConfigError, DataError, DatasetError, FormatError
from attunet.locks import exclusive
from attunet.serve.access import Access
from attunet.serve.datastore import Datastore
from attunet.serve.descriptions import describe_model
from attunet.serve.jobs import ENDED, Job, JobQueue, Scan, is_ours
from attunet.serve.metrics import ServerMetrics
from attunet.serve.multipart import Form, TooLargeError, read_form
from attunet.serve.settings import ServeSettings
from attunet.serve.shapes import JobOptions, ServedModel
from attunet.serve.store import FileStore, Upload
from attunet.serve.supervisor import Supervisor

__all__ = ["Service"]

CLEAN = 60.0
"""Seconds between two looks at what is too old to keep."""
_log = logging.getLogger(__name__)


class Service:
    """Everything of one server but its routes.

    Args: its settings.
    Attributes: settings, store, queue, access, metrics, workers, datastore and models, its parts.
    Raises: BundleError for a folder that is no model, BusyError when another server uses the folder of the data.
    """

    def __init__(self, settings: ServeSettings) -> None:
        settings.check()
        self.settings = settings
        self.access = Access(settings.token, settings.users)
        self.models: dict[str, ServedModel] = {
            name: describe_model(name, load_model(folder)) for name, folder in settings.models.items()
        }
        self.store = FileStore(settings.data, settings.least_free, settings.max_bytes)
        self._parts = ExitStack()
        self._parts.enter_context(exclusive(settings.data, "attunet serve"))
        self.queue = JobQueue(self.store.queue, settings.max_queue)
        self._parts.callback(self.queue.close)
        self.metrics = ServerMetrics(self.queue)
        own = settings.studies is None
        self.datastore = Datastore(settings.studies or settings.data / "datastore", keep=settings.keep if own else None)
        studies = str(self.datastore.folder)
        self.workers = Supervisor(settings, self.store, self.queue, studies, self.metrics.ended)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the block runs."""
        killed = self.queue.recover()
        stray = self.store.clear_unfinished({scan.id for scan in self.queue.scans(10**9)}, self.queue.folders())
        if killed or stray:
            _log.info("after a kill: %d jobs begin anew, %d unfinished folders are deleted", len(killed), stray)
        self.workers.start()
        cleaning = asyncio.create_task(self._clean())
        try:
            yield
        finally:
            cleaning.cancel()
            await self.workers.stop()
            self._parts.close()

    async def receive(self, stream: AsyncIterator[bytes], announced: str | None) -> tuple[Form, Path]:
        """Take a form; whoever calls this deletes the folder of its files.

        Args: the body of the request; its Content-Length.
        Returns: the form, and the folder.
        Raises: TooLargeError, DataError as `read_form`, BusyError when there is no room.
        """
        most = self.settings.max_upload
        coming = int(announced) if announced is not None and announced.isdecimal() else 0
        if coming > most:
            raise TooLargeError(f"the request has more than {most} bytes", hint="send less, or raise --max-upload")
        self.store.check_room(self.queue.bytes(), coming)
        folder = self.store.receive()
        try:
            return await read_form(stream, folder, most), folder
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise

    def add_scan(self, folder: Path, uploads: Sequence[Upload]) -> Scan:
        """Keep and record what came into a folder of `receive`. Raises: FormatError as `FileStore.keep`."""
        scan = self.store.keep(folder, uploads)
        self.queue.add_scan(scan)
        self.metrics.uploaded(scan.bytes)
        return scan

    def add_image(self, folder: Path, uploads: Sequence[Upload], key: str) -> str:
        """Add what came into a folder of `receive` to the studies.

        Args:
            folder: the folder.
            uploads: the image in it.
            key: what the client calls it.
        Returns: the name by which it can be asked for.
        Raises: FormatError when it is no single image file.
        """
        scan = self.store.keep(folder, uploads)
        try:
            if scan.files != 1:
                raise FormatError(f"{scan.files} files came, expected one", hint="send one image")
            return self.datastore.add(self.store.scan(scan), key)
        finally:
            self.store.remove_scan(scan.id)

    def save_label(self, key: str, tag: str, folder: Path, uploads: Sequence[Upload]) -> None:
        """Save a label that came into a folder of `receive`.

        Args:
            key: the image among the studies.
            tag: the tag of the version.
            folder: the folder.
            uploads: the label in it.
        Raises: FormatError when it is no single file, and as `Datastore.save_label`.
        """
        self.datastore.case(key)
        scan = self.store.keep(folder, uploads)
        try:
            if scan.files != 1:
                raise FormatError(f"{scan.files} files came, expected one", hint="send one label")
            self.datastore.save_label(key, tag, self.store.scan(scan))
        finally:
            self.store.remove_scan(scan.id)

    def served(self) -> dict[str, ServedModel]:
        """The models, with a warning about each that a worker could not load."""
        faults = self.workers.faults
        return {
            name: model.model_copy(update={"warnings": [f"it cannot be used: {faults[name]}", *model.warnings]})
            if name in faults
            else model
            for name, model in self.models.items()
        }

    def scan(self, key: str) -> Scan:
        """A scan. Raises: DatasetError when there is none of this id."""
        scan = self.queue.scan(key)
        if scan is None:
            raise DatasetError("there is no such scan", hint="it may have been deleted after the time of --keep")
        return scan

    def name_of(self, key: str) -> str:
        """What people call the scan of a job: an upload by its name, empty when it is deleted; a study by its own."""
        scan = self.queue.scan(key)
        if scan is not None:
            return scan.name
        return "" if is_ours(key) else key

    def remove_scan(self, key: str) -> None:
        """Delete a scan. Raises: DatasetError as `scan`, BusyError while jobs wait for it."""
        self.scan(key)
        if not self.queue.remove_scan(key):
            raise BusyError("jobs wait for this scan", hint="cancel them, or delete it later")
        self.store.remove_scan(key)

    def submit(self, scan: str, model: str, options: JobOptions) -> Job:
        """Submit a job.

        Args:
            scan: the id of a scan, or the key of an image among the studies.
            model: the name of a model.
            options: what is computed.
        Returns: the job.
        Raises: DatasetError without such a scan or model, ConfigError for a result that the model has not, BusyError
            when too many wait.
        """
        known = self.models.get(model)
        if known is None:
            raise DatasetError("there is no such model", hint=f"choose from {', '.join(self.models)}")
        in_pacs = self.settings.pacs is not None and is_uid(scan)
        if self.queue.scan(scan) is None and not in_pacs and not self.datastore.has(scan):
            self.scan(scan)
        if not known.gates and {"attention", "explanation"} & set(options.outputs):
            raise ConfigError(f"{model} has no gates, and no attention", hint="leave it out of the outputs")
        self.store.check_room(self.queue.bytes())
        job = self.queue.submit(scan, model, options.model_dump())
        self.workers.wake()
        return job

    def cancel(self, key: str) -> Job:
        """Cancel a job that has not ended. Raises: DatasetError when there is none of this id."""
        before = self.queue.job(key)
        job = self.queue.cancel(key)
        if before.state == "queued" and job.state == "cancelled":
            self.metrics.ended(key)
        self.workers.cancel(key)
        return job

    def remove_job(self, key: str) -> None:
        """Delete a job and its results. Raises: DatasetError as `cancel`, BusyError while it has not ended."""
        self.queue.job(key)
        folder = self.queue.remove_job(key)
        if folder is None:
            raise BusyError("the job has not ended", hint="cancel it first")
        if folder:
            self.store.remove_results(folder)

    async def ended(self, key: str) -> Job:
        """A job when it has ended.

        Raises: DataError when it failed, CancelledError when it was cancelled, BusyError when the server stops first.
        """
        async for _ in self.workers.changes(key):
            job = await asyncio.to_thread(self.queue.job, key)
            if job.state in ENDED:
                if job.state == "failed":
                    raise DataError(job.reason, hint=job.hint)
                if job.state == "cancelled":
                    raise CancelledError("the job was cancelled")
                return job
        raise BusyError("the server stops; the job goes on at its next start", hint="ask again later")

    async def _clean(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.clean)
            except Exception as error:
                _log.error("old uploads and results could not be deleted: %s", type(error).__name__)
            await asyncio.sleep(CLEAN)

    def clean(self) -> None:
        """Delete what is older than --keep."""
        folders, scans = self.queue.expire(self.settings.keep)
        for folder in folders:
            self.store.remove_results(folder)
        for scan in scans:
            self.store.remove_scan(scan)
        corrected = self.datastore.expire()
        if folders or scans or corrected:
            _log.info("deleted: %d uploads, %d results, %d images of clients", len(scans), len(folders), corrected)
