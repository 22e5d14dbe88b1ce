"""Images of the studies and the PACS as a NIfTI file, for clients that read files: a kind of job, of no model."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attunet.data.cases import Case, find_cases, read_case_image
from attunet.data.formats import suffix_of, write_volume
from attunet.data.layouts.dicom_cases import SeriesChoice
from attunet.errors import DataError
from attunet.files import write_text
from attunet.names import safe_name
from attunet.serve.jobs import JobQueue
from attunet.serve.records import CONVERSION, Job
from attunet.serve.store import NEEDS_ANOTHER, FileStore, ResultFile

__all__ = ["Conversions", "convert", "file_name", "is_one_file", "state_of"]

NIFTI = ".nii.gz"
FRESH = 300.0
"""Seconds for which a converted series of the PACS is given out again; what changes there is not seen."""
MOST_NAMED = 20


class Conversions:
    """The conversions of a server. Args: its files, and its jobs."""

    def __init__(self, store: FileStore, queue: JobQueue) -> None:
        self._store, self._queue, self._lock = store, queue, threading.Lock()

    def job(self, key: str, state: str | None) -> Job:
        """The job that converts an image, or has done so since its files changed; a new one where there is none.

        Args: the name of the image; the state of its files, None for a series of the PACS.
        Returns: the job, which may have ended.
        Raises: BusyError when too many wait.
        """
        with self._lock:
            job = self._queue.conversion(key)
            if job is not None and (job.state != "done" or self._is_current(job, state)):
                return job
            if job is not None and (folder := self._queue.remove_job(job.id)):
                self._store.remove_results(folder)
            return self._queue.submit(key, CONVERSION, {})

    def _is_current(self, job: Job, state: str | None) -> bool:
        if state is None:
            return time.time() - (job.ended or 0.0) < FRESH
        return self._store.result(job.folder, "state")[1].read_text(encoding="utf-8") == state


def is_one_file(case: Case) -> bool:
    """Whether an image is a file that can be given out as it is: no series, no part of one, and no header of others."""
    first = case.images[0]
    return len(case.images) == 1 and case.key is None and first.is_file() and suffix_of(first) not in NEEDS_ANOTHER


def file_name(key: str, case: Case | None = None) -> str:
    """The name of the file that clients get for an image, whose suffix tells them its format.

    Args: what they call the image; its case, None for a series of the PACS.
    Returns: the name.
    """
    suffix = suffix_of(case.images[0]) if case is not None and is_one_file(case) else None
    return f"{safe_name(key)}{suffix or NIFTI}"


def state_of(paths: Sequence[Path]) -> str:
    """A text that changes with the files of an image: with their names, sizes or times. Args: files and folders."""
    found = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                entry = file.stat()
                found.update(f"{file}\0{entry.st_size}\0{entry.st_mtime_ns}\0{entry.st_ctime_ns}\n".encode())
    return found.hexdigest()


def convert(case: Case, series: str | None, output: Path) -> list[ResultFile]:
    """Write an image as NIfTI, with all of its channels.

    Args:
        case: its files; of a series of DICOM, the folder.
        series: what chooses the series in there; None for the only one, and for other formats.
        output: an empty folder.
    Returns: the image, and the state of its files before they were read.
    Raises: DataError and its subclasses for what is no single volume.
    """
    state = state_of(case.images)
    if series is not None or case.images[0].is_dir():
        found = find_cases(case.images[:1], 1, series=SeriesChoice(series=() if series is None else (series,)))
        if len(found) != 1:
            keys = ", ".join(str(one.key) for one in found[:MOST_NAMED])
            raise DataError(f"the series makes {len(found)} volumes, expected one", hint=f"ask for one of {keys}")
        case = replace(case, images=found[0].images, key=found[0].key)
    write_volume(read_case_image(case), output / f"image{NIFTI}")
    write_text(output / "state.txt", state)
    return [
        ResultFile(name="image", title="Image", file=f"image{NIFTI}", media_type="application/gzip"),
        ResultFile(name="state", title="State of its files", file="state.txt", media_type="text/plain"),
    ]
