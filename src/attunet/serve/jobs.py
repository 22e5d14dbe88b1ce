"""The queue of jobs and the list of scans: one transaction for each step, so that each job ends exactly once.

A job is `queued`, then `running`, and in the end `done`, `failed` or `cancelled`. Whoever ends a job names the worker
that ran it: a worker whose job was given to another meanwhile ends nothing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from attunet.database import Database, Schema
from attunet.errors import BusyError, DatasetError
from attunet.serve.records import CONVERSION, ENDED, Job, Scan

__all__ = ["JobQueue"]

_TABLES = """
CREATE TABLE scan (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, path TEXT NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
  created REAL NOT NULL);
CREATE TABLE job (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, scan TEXT NOT NULL, model TEXT NOT NULL,
  options TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL,
  worker TEXT NOT NULL DEFAULT '', tries INTEGER NOT NULL DEFAULT 0, ends INTEGER NOT NULL DEFAULT 0,
  cancelling INTEGER NOT NULL DEFAULT 0, folder TEXT NOT NULL DEFAULT '', bytes INTEGER NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '');
CREATE INDEX job_state ON job (state, number);
CREATE INDEX job_scan ON job (scan);
"""
"""Of a job, tries are deaths of a worker that ran it, ends counts how often it ended, folder is that of its results."""

_SCHEMA = Schema(_TABLES, 1, "start the server once, or correct the path of its data", durable=False)
"""After a loss of power, the last uploads and jobs may be unknown, which clients are told, and are sent again."""
_TAKE = """
UPDATE job SET state = 'running', worker = :worker, started = :now WHERE number = (
  SELECT number FROM (
    SELECT number, tries FROM job WHERE state = 'queued' ORDER BY tries = 0, model != :conversion, number LIMIT 1
  ) AS next WHERE NOT EXISTS (
    SELECT 1 FROM job WHERE state = 'running' AND worker = :worker AND (tries > 0 OR next.tries > 0)))
RETURNING *"""
_END = "UPDATE job SET ended = ?, ends = ends + 1, state = ?, reason = ?, hint = ?, folder = ?, bytes = ? WHERE id = ?"


class JobQueue:
    """The queue of one server, which its workers share.

    Args:
        path: its file.
        max_queue: most jobs that wait.
        clock: gives seconds since 1970.
    """

    def __init__(self, path: Path, max_queue: int = 100, clock: Callable[[], float] = time.time) -> None:
        self._database, self._most, self._clock = Database(path, _SCHEMA), max_queue, clock

    def close(self) -> None:
        """Close its file."""
        self._database.close()

    def add_scan(self, scan: Scan) -> None:
        """Record a scan that is stored already."""
        with self._database.step() as step:
            step.execute(
                "INSERT INTO scan (id, name, path, files, bytes, created) VALUES (?, ?, ?, ?, ?, ?)",
                (scan.id, scan.name, scan.path, scan.files, scan.bytes, scan.created),
            )

    def scan(self, key: str) -> Scan | None:
        """A scan by its id; None when there is none."""
        rows = self._database.rows("SELECT * FROM scan WHERE id = ?", key)
        return Scan(**rows[0]) if rows else None

    def scans(self, limit: int = 1000) -> list[Scan]:
        """The latest scans."""
        return [Scan(**row) for row in self._database.rows("SELECT * FROM scan ORDER BY created DESC LIMIT ?", limit)]

    def remove_scan(self, key: str) -> bool:
        """Forget a scan that no job waits for; whether it was forgotten."""
        with self._database.step() as step:
            used = "SELECT 1 FROM job WHERE scan = scan.id AND state IN ('queued', 'running')"
            return step.execute(f"DELETE FROM scan WHERE id = ? AND NOT EXISTS ({used})", (key,)).rowcount == 1

    def submit(self, scan: str, model: str, options: Mapping[str, Any]) -> Job:
        """A new job, for a scan that is recorded.

        Args:
            scan: the scan.
            model: the name of the model.
            options: what is computed, as JSON values.
        Returns: the job.
        Raises: BusyError when too many wait.
        """
        key = uuid4().hex
        with self._database.step() as step:
            waiting = step.execute("SELECT COUNT(*) FROM job WHERE state = 'queued'").fetchone()[0]
            if waiting >= self._most:
                raise BusyError(f"{waiting} jobs are waiting, and no more are taken", hint="submit it again later")
            step.execute(
                "INSERT INTO job (id, scan, model, options, state, created) VALUES (?, ?, ?, ?, 'queued', ?)",
                (key, scan, model, json.dumps(dict(options)), self._clock()),
            )
        return self.job(key)

    def job(self, key: str) -> Job:
        """A job by its id. Raises: DatasetError when there is none."""
        rows = self._database.rows("SELECT * FROM job WHERE id = ?", key)
        if not rows:
            raise DatasetError("there is no such job", hint="it may have been deleted after the time of --keep")
        return _job(rows[0])

    def jobs(self, limit: int = 1000) -> list[Job]:
        """The latest predictions, the last one first."""
        latest = "SELECT * FROM job WHERE model != ? ORDER BY number DESC LIMIT ?"
        return [_job(row) for row in self._database.rows(latest, CONVERSION, limit)]

    def conversion(self, scan: str) -> Job | None:
        """The latest conversion of an image that waits, runs or is done; None when there is none."""
        latest = "SELECT * FROM job WHERE scan = ? AND model = ? AND state IN ('queued', 'running', 'done')"
        rows = self._database.rows(f"{latest} ORDER BY number DESC LIMIT 1", scan, CONVERSION)
        return _job(rows[0]) if rows else None

    def counts(self) -> dict[str, int]:
        """The number of jobs in each state."""
        counted = {row[0]: row[1] for row in self._database.rows("SELECT state, COUNT(*) FROM job GROUP BY state")}
        return {state: counted.get(state, 0) for state in ("queued", "running", *ENDED)}

    def bytes(self) -> int:
        """The size of all scans and results."""
        both = "SELECT (SELECT TOTAL(bytes) FROM scan) + (SELECT TOTAL(bytes) FROM job)"
        return int(self._database.rows(both)[0][0])

    def take(self, worker: str) -> Job | None:
        """The next job, now running in a worker; None when none waits, or the next one has to run alone.

        A job whose worker died runs alone, so that others do not die with it, and before the others; then come
        conversions.
        """
        if not self._database.rows("SELECT 1 FROM job WHERE state = 'queued' LIMIT 1"):
            return None  # without a transaction, which would wait for those of others
        values = {"worker": worker, "now": self._clock(), "conversion": CONVERSION}
        with self._database.step() as step:
            row = step.execute(_TAKE, values).fetchone()
        return None if row is None else _job(row)

    def finish(
        self, job: Job, state: str, *, folder: str = "", size: int = 0, error: tuple[str, str] = ("", "")
    ) -> bool:
        """End a job that a worker ran.

        Args:
            job: the job as it was taken.
            state: done, failed or cancelled.
            folder: the folder of its results.
            size: their bytes.
            error: why it failed, and what to do about it.
        Returns: False when it is no longer the worker's: nothing has changed.
        """
        with self._database.step() as step:
            if not _is_run_by(step, job):
                return False
            step.execute(_END, (self._clock(), state, *error, folder, size, job.id))
        return True

    def put_back(self, job: Job) -> None:
        """A worker was stopped in order: its job begins anew later, unless it was to be cancelled."""
        with self._database.step() as step:
            if _is_run_by(step, job):
                step.execute("UPDATE job SET state = 'queued', worker = '' WHERE id = ?", (job.id,))

    def cancel(self, key: str) -> Job:
        """Cancel a job: at once when it waits, else its worker is to stop. Raises: DatasetError as `job`."""
        with self._database.step() as step:
            job = self.job(key)
            if job.state == "queued":
                step.execute(_END, (self._clock(), "cancelled", "", "", "", 0, key))
            elif job.state == "running":
                step.execute("UPDATE job SET cancelling = 1 WHERE id = ?", (key,))
        return self.job(key)

    def recover(self, worker: str | None = None, tries: int = 0) -> list[Job]:
        """What a dead worker was running is queued again, or has failed after too many deaths.

        Args:
            worker: the worker; None after a kill of the server, which is no fault of a job: every running job.
            tries: deaths after which a job has failed.
        Returns: these jobs as they are now.
        """
        with self._database.step() as step:
            rows = step.execute(
                "SELECT * FROM job WHERE state = 'running' AND worker = COALESCE(?, worker)", (worker,)
            ).fetchall()
            for job in map(_job, rows):
                deaths = job.tries + (worker is not None)
                step.execute("UPDATE job SET state = 'queued', worker = '', tries = ? WHERE id = ?", (deaths, job.id))
                if job.cancelling:
                    step.execute(_END, (self._clock(), "cancelled", "", "", "", 0, job.id))
                elif worker is not None and deaths >= tries:
                    reason = f"the worker died {deaths} times while it ran this job"
                    step.execute(_END, (self._clock(), "failed", reason, _POISON, "", 0, job.id))
        return [self.job(row["id"]) for row in rows]

    def expire(self, age: float) -> tuple[list[str], list[str]]:
        """Forget jobs that ended, and scans that came, so many seconds ago, and that nothing waits for.

        Returns: the folders of their results, and the ids of the scans.
        """
        before = self._clock() - age
        unused = "NOT EXISTS (SELECT 1 FROM job WHERE scan = scan.id AND state IN ('queued', 'running'))"
        with self._database.step() as step:
            jobs = step.execute("DELETE FROM job WHERE ended < ? RETURNING folder", (before,)).fetchall()
            scans = step.execute(f"DELETE FROM scan WHERE created < ? AND {unused} RETURNING id", (before,)).fetchall()
        return [row[0] for row in jobs if row[0]], [row[0] for row in scans]

    def remove_job(self, key: str) -> str | None:
        """Forget a job that ended. Returns: the folder of its results; None when it has not ended."""
        with self._database.step() as step:
            ended = "DELETE FROM job WHERE id = ? AND ended IS NOT NULL RETURNING folder"
            row = step.execute(ended, (key,)).fetchone()
        return None if row is None else str(row[0])

    def folders(self) -> set[str]:
        """The folders of all results."""
        return {row[0] for row in self._database.rows("SELECT folder FROM job WHERE folder != ''")}


_POISON = (
    "its files may be damaged, or larger than the memory: check them; --max-memory of the server divides large ones"
)


def _is_run_by(step: sqlite3.Connection, job: Job) -> bool:
    """Whether the job is still running in the worker that took it."""
    running = "SELECT 1 FROM job WHERE id = ? AND state = 'running' AND worker = ?"
    return step.execute(running, (job.id, job.worker)).fetchone() is not None


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    return Job(**values | {"options": json.loads(values["options"]), "cancelling": bool(values["cancelling"])})
