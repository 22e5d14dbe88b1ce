"""Where a job finds its image: among the uploads, in the PACS, or among the studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attunet.dicom.network.identity import is_uid
from attunet.serve.jobs import JobQueue
from attunet.serve.records import Job
from attunet.serve.shapes import JobOptions
from attunet.serve.store import FileStore

if TYPE_CHECKING:
    from attunet.data.cases import Case

__all__ = ["Source", "Sources"]


@dataclass(frozen=True)
class Source:
    """What a job reads.

    Args:
        path: where it is.
        name: what people call it.
        options: what is computed of it.
        case: its case where it is one of the studies; None for what is found in `path`.
    """

    path: Path
    name: str
    options: JobOptions
    case: Case | None = None


class Sources:
    """Everything that jobs read.

    Args:
        store: the uploads.
        queue: what is known of them.
        studies: folder of the studies.
        pacs: URL of a DICOMweb service; None for none.
        inputs: the names of the channels of each model.
    """

    def __init__(
        self, store: FileStore, queue: JobQueue, studies: str, pacs: str | None, inputs: Mapping[str, Sequence[str]]
    ) -> None:
        self._store, self._queue, self._studies, self._pacs = store, queue, studies, pacs
        self._inputs = inputs

    def of(self, job: Job, folder: Path) -> Source:
        """What a job reads.

        Args: the job; where a series of the PACS is put, a folder that does not exist yet.
        Returns: its source.
        Raises: DatasetError when it is no longer there, NetworkError as `fetch_series`.
        """
        from attunet.serve.datastore import Datastore

        scan, options = self._queue.scan(job.scan), JobOptions(**job.options)
        if scan is not None:
            return Source(self._store.scan(scan), scan.name, options)
        if self._pacs is not None and is_uid(job.scan):
            return Source(_fetched(self._pacs, job.scan, folder), job.scan, options)
        store = Datastore(Path(self._studies), inputs=list(self._inputs.values()))
        case = store.case(job.scan, self._inputs.get(job.model))
        return Source(case.images[0], job.scan, options.model_copy(update={"series": case.key or options.series}), case)


def _fetched(pacs: str, series: str, folder: Path) -> Path:
    """A series of the PACS. Raises: NetworkError as `fetch_series`."""
    from attunet.dicom.network.addresses import WebAddress, parse_address
    from attunet.dicom.network.web import fetch_series

    service = parse_address(pacs)
    assert isinstance(service, WebAddress)
    folder.mkdir(mode=0o700)
    return fetch_series(service, series, folder)
