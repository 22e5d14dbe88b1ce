"""What people see of a queue and do with it: its state as numbers and lists, and a retry from the dead-letter list."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from attunet.dicom.node.database import DATABASE, StudyDatabase
from attunet.errors import ConfigError

__all__ = ["STUDY_STATES", "NodeState", "StudyState", "read_state", "retry_study"]

STUDY_STATES = {
    "receiving": "instances are coming in",
    "queued": "complete, waits for its prediction",
    "predicting": "is predicted now",
    "sending": "predicted, its results are being sent",
    "answered": "every destination has every result",
    "ignored": "no rule matches any of its series",
    "failed": "the dead-letter list: see its reason, then attunet dicom retry",
}
"""Every state of a study, and what it means."""

_SHOWN = 50


@dataclass(frozen=True)
class StudyState:
    """One study, without anything private.

    Args:
        uid: StudyInstanceUID.
        state: one of `STUDY_STATES`.
        since: local time at which it got there.
        instances: how many came in.
        late: how many of them came in after the result of their series.
        unsent: results that wait for a destination.
        reason: why it failed, or is tried again.
    """

    uid: str
    state: str
    since: str
    instances: int
    late: int
    unsent: int
    reason: str


@dataclass(frozen=True)
class NodeState:
    """The state of a node.

    Args:
        counts: studies in each state.
        waiting: results that wait for each destination, and why the last try failed.
        failed: the dead-letter list, the latest first.
        late: answered studies with late instances, the latest first.
        active: studies in work, the oldest first; the latest answered ones behind them.
    """

    counts: dict[str, int]
    waiting: dict[str, dict[str, Any]]
    failed: list[StudyState]
    late: list[StudyState]
    active: list[StudyState]


def read_state(folder: Path, shown: int = _SHOWN) -> NodeState:
    """The state of a node from its folder, whether it runs or not.

    Args: the folder of its state; studies of each list.
    Raises: ConfigError when no node has used the folder.
    """
    database = StudyDatabase(folder / DATABASE, writable=False)
    try:
        counts = dict.fromkeys(STUDY_STATES, 0)
        counts |= {row[0]: row[1] for row in database.rows("SELECT state, COUNT(*) FROM study GROUP BY state")}
        waiting = database.rows(
            "SELECT destination, COUNT(*) AS results, MAX(reason) AS reason FROM delivery "
            "WHERE state = 'waiting' GROUP BY destination ORDER BY destination"
        )
        return NodeState(
            counts=counts,
            waiting={row["destination"]: {"results": row["results"], "reason": row["reason"]} for row in waiting},
            failed=_studies(database, "state = 'failed'", "since DESC", shown),
            late=_studies(database, "state = 'answered' AND late > 0", "since DESC", shown),
            active=[
                *_studies(database, "state IN ('receiving', 'queued', 'predicting', 'sending')", "since", shown),
                *_studies(database, "state = 'answered'", "since DESC", shown),
            ],
        )
    finally:
        database.close()


def retry_study(folder: Path, study: str) -> str:
    """Begin a failed study again, or an answered one with late instances, also while the node runs.

    Args: the folder of the node's state; StudyInstanceUID.
    Returns: what happens now, in words.
    Raises: ConfigError when there is no such study, or nothing to repeat.
    """
    if not (folder / DATABASE).exists():
        raise ConfigError(f"{folder} holds no queue", hint="start the node once, or correct the path of its state")
    database = StudyDatabase(folder / DATABASE)
    try:
        with database.step() as step:
            row = step.execute("SELECT state FROM study WHERE uid = ?", (study,)).fetchone()
            if row is None:
                raise ConfigError(f"the node knows no study {study}", hint="see attunet dicom status")
            late = step.execute(
                "SELECT DISTINCT series FROM instance WHERE study = ? AND late = 1", (study,)
            ).fetchall()
            if row["state"] != "failed" and not (row["state"] == "answered" and late):
                hint = "failed studies can be repeated, and answered ones with late instances; see attunet dicom status"
                raise ConfigError(f"study {study} is {row['state']}, and has nothing to repeat", hint=hint)
            failed = step.execute("DELETE FROM task WHERE study = ? AND reason != ''", (study,)).rowcount
            step.executemany("DELETE FROM task WHERE series = ?", [tuple(entry) for entry in late])
            step.execute("UPDATE instance SET late = 0 WHERE study = ?", (study,))
            unsent = step.execute(
                "UPDATE delivery SET state = 'waiting', since = ?, tries = 0, due = 0, reason = '' "
                "WHERE study = ? AND state = 'failed'",
                (time.time(), study),
            ).rowcount
            only_unsent = bool(unsent) and not late and not failed
            step.execute(
                "UPDATE study SET state = ?, since = ?, starts = 0, tries = 0, due = 0, reason = '' WHERE uid = ?",
                ("sending" if only_unsent else "receiving", time.time(), study),
            )
    finally:
        database.close()
    return "its results are sent again" if only_unsent else "it is predicted again as soon as it has settled"


def _studies(database: StudyDatabase, condition: str, order: str, limit: int) -> list[StudyState]:
    """Studies that meet a condition of SQL, which is ours and holds nothing that anybody sent."""
    rows = database.rows(
        "SELECT * FROM (SELECT uid, state, since, reason,"
        " (SELECT COUNT(*) FROM instance WHERE study = study.uid) AS instances,"
        " (SELECT COUNT(*) FROM instance WHERE study = study.uid AND late = 1) AS late,"
        " (SELECT COUNT(*) FROM delivery WHERE study = study.uid AND state = 'waiting') AS unsent FROM study)"
        f" WHERE {condition} ORDER BY {order} LIMIT ?",
        limit,
    )
    return [
        StudyState(
            uid=row["uid"],
            state=row["state"],
            since=datetime.fromtimestamp(row["since"]).astimezone().isoformat(timespec="seconds"),
            instances=row["instances"],
            late=row["late"],
            unsent=row["unsent"],
            reason=row["reason"],
        )
        for row in rows
    ]
