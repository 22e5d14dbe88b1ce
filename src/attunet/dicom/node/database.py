"""The tables of the queue of studies, and the file that holds them."""

from __future__ import annotations

from pathlib import Path

from attunet.database import Database, Schema

__all__ = ["DATABASE", "StudyDatabase"]

DATABASE = "queue.sqlite"

TABLES = """
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


class StudyDatabase(Database):
    """The file of a queue of studies. Args: its path; whether it may be written to, and is made if it is missing."""

    def __init__(self, path: Path, *, writable: bool = True) -> None:
        absent = "start the node once, or correct the path of its state"
        super().__init__(path, Schema(TABLES, 1, absent), writable=writable)
