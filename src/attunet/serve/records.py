"""What the queue knows of a scan and of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["CONVERSION", "ENDED", "Job", "Scan"]

ENDED = ("done", "failed", "cancelled")
CONVERSION = ""
"""In place of a model: the job converts an image for a client that waits for it."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What was uploaded.

    Args:
        id: made by the server.
        name: what the client called it, for people only: never a path, never in a log.
        path: the file or folder, below that of the scan.
        files: number of its files.
        bytes: their size.
        created: when it came, in seconds since 1970.
    """

    id: str
    name: str
    path: str
    files: int
    bytes: int
    created: float


@dataclass(frozen=True, kw_only=True)
class Job:
    """One prediction of a scan.

    Args:
        number: its place in the order of arrival.
        id: made by the server.
        scan: the scan's id, or the key of an image among the studies.
        model: the name of the model, or `CONVERSION`.
        options: what is computed, see `JobOptions`.
        state: queued, running, done, failed or cancelled.
        created: when it was submitted, in seconds since 1970.
        started: when it was last started; None before.
        ended: when it ended; None before.
        worker: the worker process that runs it or ran it last.
        tries: deaths of a worker that ran it.
        ends: how often it ended: 0 or 1.
        cancelling: whether it is to be cancelled.
        folder: name of the folder of its results.
        bytes: their size.
        reason: why it failed.
        hint: what to do about it.
    """

    number: int
    id: str
    scan: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    state: str
    created: float
    started: float | None
    ended: float | None
    worker: str
    tries: int
    ends: int
    cancelling: bool
    folder: str
    bytes: int
    reason: str
    hint: str
