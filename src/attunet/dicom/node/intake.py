"""The one way in: whatever brings an instance, it is checked, stored, and then recorded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

from attunet.dicom.network.identity import Identity, read_identity
from attunet.dicom.node.queue import Arrival, StudyQueue
from attunet.dicom.node.storage import Storage
from attunet.errors import FormatError

__all__ = ["Intake"]

_log = logging.getLogger(__name__)


class Intake:
    """Takes instances, and knows which studies are still growing.

    Args:
        queue: where they are recorded.
        storage: where they are stored.
        clock: seconds of a clock that never jumps.
    """

    def __init__(self, queue: StudyQueue, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue, self._storage, self._clock = queue, storage, clock
        self._quiet_since: dict[str, float] = {}
        self._lock = Lock()

    def take(self, identity: Identity, content: bytes) -> Arrival:
        """Take an instance; when this returns, it is safe.

        An instance that is known already is not stored again, unless its file is gone.

        Args: who it is; its file.
        Returns: what it was to the queue.
        Raises: FormatError when the disk is full or fails.
        """
        arrival = self._stored(identity, content)
        if arrival in ("own", "other"):
            return arrival
        return self._recorded([identity])[0]

    def take_files(self, files: Sequence[Path]) -> None:
        """Take copies of files, all of them at once: a kill leaves none.

        Raises: FormatError for one that is not DICOM, and as `take`.
        """
        identities = []
        for file in files:
            identity = read_identity(file)
            if self._queue.classify(identity) in ("new", "late"):
                self._stored(identity, file.read_bytes())
                identities.append(identity)
        self._recorded(identities)

    def has_series(self, series: str, instances: int | None) -> bool:
        """Whether a series is here, with at least so many instances; None for any number."""
        kept = self._queue.instances_of(series)
        return kept > 0 if instances is None else kept >= instances

    def holds(self, identity: Identity, content: bytes) -> bool:
        """Whether the stored instance has the same data set, whatever its file header, which each program writes."""
        return _data_set(self._storage.instance(identity).read_bytes()) == _data_set(content)

    def settled(self, seconds: float) -> list[str]:
        """The studies that are complete: no instance has come in for so many seconds, counted while the node runs."""
        now = self._clock()
        receiving = self._queue.studies("receiving")
        with self._lock:
            self._quiet_since = {study: self._quiet_since.get(study, now) for study in receiving}
            return [study for study, since in self._quiet_since.items() if now - since >= seconds]

    def forget_unrecorded(self) -> int:
        """After a kill: delete stored instances whose sender was not told so, and sends them again; how many."""
        count = 0
        for file in self._storage.instances():
            uid = file.name.removesuffix(".dcm")
            if not self._queue.knows(uid):
                file.unlink(missing_ok=True)
                count += 1
        return count

    def _stored(self, identity: Identity, content: bytes) -> Arrival:
        if not self._storage.has_room(len(content)):
            raise FormatError(f"less than least_free_mb is free on the disk of {self._storage.folder}", hint=_FREE)
        arrival = self._queue.classify(identity)
        known = arrival == "known" and self._storage.instance(identity).exists()
        if arrival not in ("own", "other") and not known:
            self._storage.write(identity, content)
        return arrival

    def _recorded(self, identities: Sequence[Identity]) -> list[Arrival]:
        arrivals = self._queue.add(identities)
        for identity, arrival in zip(identities, arrivals, strict=True):
            if arrival == "late":
                _log.warning(_LATE, identity.study, identity.series)
            if arrival == "new":
                with self._lock:
                    self._quiet_since[identity.study] = self._clock()
        return arrivals


def _data_set(file: bytes) -> bytes:
    """What follows the group of the file header, whose first element tells its length (PS3.10, section 7.1)."""
    return file[_META + int.from_bytes(file[_META - 4 : _META], "little") :]


_META = 144
_FREE = "free disk space, or lower keep_days"
_LATE = (
    "study %s: an instance of series %s came in after its result; it is kept, and "
    "`attunet dicom retry` predicts the series again"
)
