"""The file behind the queue: SQLite with a write-ahead log, one transaction for each step, shared by the threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from attunet.errors import ConfigError, FormatError

__all__ = ["DATABASE", "Database"]

DATABASE = "queue.sqlite"
VERSION = 1
BUSY_SECONDS = 30

_SCHEMA = """
CREATE TABLE study (
  uid TEXT PRIMARY KEY, state TEXT NOT NULL, since REAL NOT NULL, starts INTEGER NOT NULL DEFAULT 0,
  tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '');
CREATE INDEX study_state ON study (state, since);
CREATE TABLE instance (
  uid TEXT PRIMARY KEY, series TEXT NOT NULL, study TEXT NOT NULL, late INTEGER NOT NULL DEFAULT 0);
CREATE INDEX instance_study ON instance (study, series);
CREATE TABLE task (
  series TEXT NOT NULL, rule TEXT NOT NULL, study TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (series, rule));
CREATE INDEX task_study ON task (study);
CREATE TABLE delivery (
  study TEXT NOT NULL, file TEXT NOT NULL, destination TEXT NOT NULL, state TEXT NOT NULL, since REAL NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (study, file, destination));
CREATE INDEX delivery_state ON delivery (destination, state, due);
CREATE INDEX delivery_file ON delivery (file);
"""
"""Of a study, starts are predictions that began and did not end, tries those that could not be made. A task is a series
that a rule has predicted, or that failed with a reason. States of a delivery: waiting, sent, failed."""


class Database:
    """An open database. Args: its file; whether it may be written to, and is made if it is missing."""

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        self.path = path
        self._lock = RLock()
        if not writable and not path.exists():
            raise ConfigError(f"{path} does not exist", hint="start the node once, or correct the path of its state")
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
                self._connection.execute("PRAGMA synchronous = FULL")
            self._prepare(writable)

    def close(self) -> None:
        """Close it, when no thread uses it any more."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def step(self) -> Iterator[sqlite3.Connection]:
        """A transaction, alone among threads and programs: all of the block, or nothing of it, survives a kill.

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
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and writable:
            self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise ConfigError(
                f"{self.path} has version {version}, expected {VERSION}",
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
