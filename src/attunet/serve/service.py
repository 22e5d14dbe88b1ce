"""`Service`: what the routes of a server ask for: models, scans, jobs and results, whatever protocol they speak."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from attunet.bundle import load_model
from attunet.data.cases import Case
from attunet.dicom.network.identity import is_uid
from attunet.errors import AttunetError, BusyError, CancelledError, ConfigError, DataError, DatasetError, FormatError
from attunet.locks import exclusive
from attunet.serve.access import Access
from attunet.serve.conversion import Conversions, file_name, is_one_file, state_of
from attunet.serve.datastore import Datastore
from attunet.serve.descriptions import describe_model
from attunet.serve.hints import client_hint
from attunet.serve.jobs import JobQueue
from attunet.serve.metrics import ServerMetrics
from attunet.serve.multipart import LESS, Form, TooLargeError, read_form
from attunet.serve.records import ENDED, Job, Scan
from attunet.serve.settings import ServeSettings
from attunet.serve.shapes import JobOptions, ServedModel
from attunet.serve.store import FileStore, Upload, is_ours
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
        inputs = {name: model.channels for name, model in self.models.items()}
        folder = settings.studies or settings.data / "datastore"
        self.datastore = Datastore(folder, settings.keep if own else None, list(inputs.values()))
        self.workers = Supervisor(settings, self.store, self.queue, str(folder), inputs, self.metrics.ended)
        self._conversions = Conversions(self.store, self.queue)

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
            raise TooLargeError(f"the request has more than {most} bytes", hint=LESS)
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
            with self._in_words(scan, "the image"):
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
            with self._in_words(scan, "the label"):
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

    @contextmanager
    def _in_words(self, scan: Scan, name: str) -> Iterator[None]:
        """Errors of the block, which reads what came in, in the words of clients, who know no path of the server."""
        try:
            yield
        except AttunetError as error:
            studies = f"{self.datastore.folder}/"
            error.message, error.hint = (
                self.store.in_words(text, self.store.scan(scan), name).replace(studies, "")
                for text in (error.message, client_hint(error.hint))
            )
            raise

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
        Raises: DatasetError without such a scan or model, ConfigError for a result that the model has not, DataError
            for an image of other channels, BusyError when too many wait.
        """
        known = self.models.get(model)
        if known is None:
            raise DatasetError("there is no such model", hint=f"choose from {', '.join(self.models)}")
        if self.queue.scan(scan) is None and not self._in_pacs(scan):
            if not self.datastore.has(scan):
                self.scan(scan)
            self._check_series(self.datastore.case(scan, known.channels), options)
        if not known.gates and {"attention", "explanation"} & set(options.outputs):
            raise ConfigError(f"{model} has no gates, and no attention", hint="leave it out of the outputs")
        self.store.check_room(self.queue.bytes())
        job = self.queue.submit(scan, model, options.model_dump())
        self.workers.wake()
        return job

    async def image(self, key: str) -> tuple[Path, str]:
        """A file of an image of the studies or the PACS, and its name; what is no single file is converted by a worker.

        Raises: DatasetError when there is no such image, DataError when it cannot be converted, BusyError as `submit`.
        """
        case = None if self._in_pacs(key) else await asyncio.to_thread(self.datastore.case, key)
        if case is not None and is_one_file(case):
            return case.images[0], file_name(key, case)
        state = None if case is None else await asyncio.to_thread(state_of, case.images)
        self.store.check_room(self.queue.bytes())
        job = await asyncio.to_thread(self._conversions.job, key, state)
        self.workers.wake()
        job = await self.ended(job.id)
        _, path = await asyncio.to_thread(self.store.result, job.folder, "image")
        return path, file_name(key)

    def _in_pacs(self, key: str) -> bool:
        return self.settings.pacs is not None and is_uid(key)

    def _check_series(self, study: Case, options: JobOptions) -> None:
        """Raises: ConfigError when another series is asked for than that which a study is."""
        key = study.key or ""
        if options.series is not None and options.series not in (key, key.partition("#")[0]):
            raise ConfigError("this study is one image, and another series is asked for", hint="leave series out")

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
