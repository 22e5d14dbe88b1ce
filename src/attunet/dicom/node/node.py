"""The node: its threads, from the first instance of a study to the last destination that has its results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event, Thread

from attunet.dicom import require_dicom
from attunet.dicom.node.database import StudyDatabase
from attunet.dicom.node.deliver import Courier
from attunet.dicom.node.intake import Intake
from attunet.dicom.node.page import serving_page
from attunet.dicom.node.predict import Predict, Predictor, check_models, predict_series
from attunet.dicom.node.queue import StudyQueue
from attunet.dicom.node.receive import receiving
from attunet.dicom.node.settings import NodeSettings
from attunet.dicom.node.sources import QuerySource, WatchSource
from attunet.dicom.node.storage import Storage
from attunet.errors import AttunetError, CancelledError
from attunet.locks import exclusive

__all__ = ["Node"]

NOW, TICK = 0.0, 0.2
"""Seconds between two looks at what is settled, queued and due."""
CLEAN = 60.0
DAY = 86400.0
_log = logging.getLogger(__name__)


class Node:
    """A node.

    Args:
        settings: what it does.
        predict: what predicts a series; None for the model of each rule.
    """

    def __init__(self, settings: NodeSettings, predict: Predict | None = None) -> None:
        self._settings, self._predict = settings, predict
        self._stop, self._failure = Event(), list[BaseException]()

    def stop(self) -> None:
        """End `run`: nothing more is received, and a running prediction is put back into the queue."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop` is called, or a part of the node fails.

        Raises: EngineError without the extra, BusyError when another node uses the folder of the state, ConfigError
            when a port is taken or a model does not suit, BundleError for a folder that is no model, FormatError when
            the disk fails.
        """
        settings = self._settings
        require_dicom("a DICOM node")
        if self._predict is None:
            check_models(settings)
        with exclusive(settings.state, "attunet dicom node"), ExitStack() as parts:
            storage = Storage(settings.state, settings.least_free_mb)
            database = StudyDatabase(storage.database)
            parts.callback(database.close)
            queue = StudyQueue(database)
            intake = Intake(queue, storage)
            self._recover(queue, storage, intake)
            parts.enter_context(self._threads(self._loops(queue, storage, intake)))
            if settings.page is not None:
                parts.enter_context(serving_page(settings.page, settings.state))
            if settings.receive is not None:
                parts.enter_context(receiving(settings.receive, intake))
            _log.info("ready")
            self._stop.wait()
        if self._failure:
            raise self._failure[0]

    def _recover(self, queue: StudyQueue, storage: Storage, intake: Intake) -> None:
        """Bring the state in order after a kill."""
        storage.clear_unfinished()
        unrecorded = intake.forget_unrecorded()
        for study in queue.without_results(storage.results()):
            storage.remove_results(study)
        killed = queue.recover(self._settings.retry.starts)
        if unrecorded or killed:
            told = "after a kill: %d studies are predicted anew, %d instances are awaited again"
            _log.info(told, len(killed), unrecorded)

    def _loops(self, queue: StudyQueue, storage: Storage, intake: Intake) -> dict[str, Callable[[], float]]:
        """What every thread repeats: a step that returns the seconds until the next."""
        settings = self._settings
        predictor = Predictor(settings, queue, storage, self._predict or predict_series)
        return {
            "settle": partial(_settle, settings, queue, intake),
            "predict": partial(_predict_next, queue, predictor, self._stop),
            "clean": partial(_clean, settings, queue, storage),
            **{f"deliver to {to.name}": Courier(to, settings, queue, storage).run for to in settings.destinations},
            **{f"watch {watch.folder}": WatchSource(watch, intake).run for watch in settings.watch},
            **{
                f"query {query.url}": QuerySource(query, settings, intake, storage.incoming).run
                for query in settings.queries
            },
        }

    @contextmanager
    def _threads(self, loops: dict[str, Callable[[], float]]) -> Iterator[None]:
        """Repeat every loop in a thread of its own while the block runs; one that fails ends the node."""
        threads = [Thread(target=self._repeat, args=(name, loop), name=name) for name, loop in loops.items()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _repeat(self, name: str, loop: Callable[[], float]) -> None:
        try:
            while not self._stop.is_set():
                self._stop.wait(loop())
        except BaseException as error:
            _log.error("%s failed: %s", name, error if isinstance(error, AttunetError) else type(error).__name__)
            self._failure.append(error)
            self._stop.set()


def _settle(settings: NodeSettings, queue: StudyQueue, intake: Intake) -> float:
    for study in intake.settled(settings.settle):
        _log.info("study %s: complete, %d instances", study, queue.instances(study))
        queue.settle(study)
    return TICK


def _predict_next(queue: StudyQueue, predictor: Predictor, stop: Event) -> float:
    study = queue.take()
    if study is None:
        return TICK
    try:
        predictor.run(study, stop)
    except CancelledError:
        queue.put_back(study)
    return NOW


def _clean(settings: NodeSettings, queue: StudyQueue, storage: Storage) -> float:
    for study in queue.expire(storage.studies(), settings.keep_days * DAY):
        storage.remove_instances(study)
        storage.remove_results(study)
    return CLEAN
