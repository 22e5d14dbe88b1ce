"""Queues in one file: SQLite with a write-ahead log, one transaction for each step, shared by threads and programs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from attunet.errors import ConfigError, FormatError

__all__ = ["Database", "Schema"]

BUSY_SECONDS = 30


@dataclass(frozen=True)
class Schema:
    """The tables of a file.

    Args:
        tables: statements of SQL that make them.
        version: the number of these tables, which the file keeps.
        absent: what to do when the file does not exist.
        durable: whether a step outlives a loss of power, which takes a few milliseconds; kills it outlives always.
    """

    tables: str
    version: int
    absent: str
    durable: bool = True


class Database:
    """An open database.

    Args:
        path: its file.
        schema: its tables.
        writable: whether it may be written to, and is made if it is missing.
    Raises: ConfigError when it is missing or of another version, FormatError when it cannot be used.
    """

    def __init__(self, path: Path, schema: Schema, *, writable: bool = True) -> None:
        self.path = path
        self._lock, self._schema = RLock(), schema
        if not writable and not path.exists():
            raise ConfigError(f"{path} does not exist", hint=schema.absent)
        with self._explained():
            self._connection = sqlite3.connect(
                path if writable else f"{path.absolute().as_uri()}?mode=ro",
                uri=not writable,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.row_factory = sqlite3.Row
            if writable:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if schema.durable else 'NORMAL'}")
            self._prepare(writable)

    def close(self) -> None:
        """Close it, when no thread uses it any more."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def step(self) -> Iterator[sqlite3.Connection]:
        """A transaction, alone among threads and programs: all of the block, or nothing of it, survives a kill.

        Of a schema that is not durable, a loss of power may undo the last ones.

        Raises: FormatError when the disk is full or the file is damaged.
        """
        with self._lock, self._explained():
            if self._connection.in_transaction:  # a step within a step
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of a query. Raises: FormatError as `step`."""
        with self._lock, self._explained():
            return self._connection.execute(query, values).fetchall()

    def _prepare(self, writable: bool) -> None:
        version, expected = self._connection.execute("PRAGMA user_version").fetchone()[0], self._schema.version
        if version == 0 and writable:
            self._connection.executescript(f"BEGIN; {self._schema.tables} PRAGMA user_version = {expected}; COMMIT;")
        elif version != expected:
            raise ConfigError(
                f"{self.path} has version {version}, expected {expected}",
                hint="use the attunet that wrote it, or choose another folder for the state",
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise FormatError(
                f"the queue {self.path} cannot be used: {error}", hint="check the disk, its space and permissions"
            ) from error
