"""Delivery: one courier for each destination, who sends what is due and waits longer after each failure."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attunet.dicom.network.addresses import parse_address
from attunet.dicom.network.send import CALLING, Sent, send_files
from attunet.dicom.network.web import WebAccess
from attunet.dicom.node.queue import Delivery, StudyQueue
from attunet.dicom.node.settings import DestinationSettings, NodeSettings
from attunet.dicom.node.storage import Storage
from attunet.errors import AttunetError, RefusedError

__all__ = ["Courier"]

HOUR = 3600.0
IDLE = 0.2
"""Seconds between two looks at what is due."""
_log = logging.getLogger(__name__)


class Courier:
    """Brings results to one destination.

    Args:
        destination: the destination.
        settings: of the node.
        queue: what is due.
        storage: where the results are.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        destination: DestinationSettings,
        settings: NodeSettings,
        queue: StudyQueue,
        storage: Storage,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._destination, self._retry = destination, settings.retry
        self._queue, self._storage, self._clock = queue, storage, clock
        self._calling = destination.calling or (settings.receive.ae_title if settings.receive else CALLING)
        self._failures = 0

    def run(self) -> float:
        """Send the results of one study; the seconds to wait before the next call.

        A destination that cannot be reached keeps all of its results waiting; an object that it does not take waits
        alone, and one that it never takes is given up at once. Whatever was tried waits behind what was not, so that
        an object at which the destination breaks off holds up no other study.
        """
        due = self._queue.due(self._destination.name)
        if not due:
            return IDLE
        waiting = {self._storage.result(delivery.study, delivery.file): delivery for delivery in due}
        try:
            for file in [file for file in waiting if not file.exists()]:
                self._queue.not_delivered(waiting.pop(file), "its file is gone from the state", wait=None)
            for sent in self._send(list(waiting)):
                delivery = waiting.pop(sent.file)
                if sent.error is None:
                    if self._queue.delivered(delivery):
                        self._storage.remove_results(delivery.study)
                    _log.info("study %s: %s has %s", delivery.study, self._destination.name, delivery.file)
                else:
                    self._not_taken(delivery, sent.error)
            self._failures = 0
        except AttunetError as error:
            return self._unreachable(list(waiting.values()), error)
        return 0.0

    def _send(self, files: list[Path]) -> Iterator[Sent]:
        return send_files(
            parse_address(self._destination.address),
            files,
            calling=self._calling,
            access=WebAccess(self._destination.credentials, self._destination.authority),
        )

    def _not_taken(self, delivery: Delivery, error: AttunetError) -> None:
        wait = self._retry.wait(delivery.tries + 1)
        final = isinstance(error, RefusedError) or self._is_old(delivery)
        self._queue.not_delivered(delivery, str(error), wait=None if final else wait)
        _log.warning(
            "study %s: %s; %s",
            delivery.study,
            error,
            "it is given up" if final else f"it is sent again in {wait:.0f} s",
        )

    def _unreachable(self, waiting: list[Delivery], error: AttunetError) -> float:
        self._failures += 1
        wait = self._retry.wait(self._failures)
        _log.warning("%s: %s; it is tried again in %.0f s", self._destination.name, error, wait)
        for delivery in waiting:
            later = self._retry.wait(delivery.tries + 1)
            self._queue.not_delivered(delivery, str(error), wait=None if self._is_old(delivery) else later)
        return wait

    def _is_old(self, delivery: Delivery) -> bool:
        return self._clock() - delivery.since > self._retry.give_up_hours * HOUR
