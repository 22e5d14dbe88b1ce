"""The queue of studies: what came in, what was predicted, what was sent. It survives every kill; it holds UIDs only.

A study is `receiving` until it has settled, then `queued`, `predicting`, `sending`, and in the end `answered`,
`ignored` (no rule matches) or `failed` (the dead-letter list). Results are recorded before they are sent, so that a
kill repeats at most the sending of the same object, which has the same UID.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from attunet.database import Database
from attunet.dicom.network.identity import Identity

__all__ = ["Arrival", "Delivery", "SeriesResult", "StudyQueue"]

Arrival = Literal["new", "known", "late", "other", "own"]
"""What an instance is to the queue: `late` when its series was predicted before, `other` when another study has its
UID, `own` when it is one of our results."""


@dataclass(frozen=True)
class SeriesResult:
    """What a rule made of a series.

    Args:
        series: SeriesInstanceUID.
        rule: name of the rule.
        files: names of the results, each with the destinations it goes to.
        reason: why there are none; empty when the prediction succeeded.
    """

    series: str
    rule: str
    files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Delivery:
    """A result that waits for its destination.

    Args:
        study: StudyInstanceUID.
        file: name of the file.
        destination: name of the destination.
        tries: how often it was tried.
        since: when it was recorded, in seconds since 1970.
    """

    study: str
    file: str
    destination: str
    tries: int
    since: float


class StudyQueue:
    """The queue of one node. Args: its database, and a clock that gives seconds since 1970."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def classify(self, identity: Identity) -> Arrival:
        """What an instance would be if it was added now."""
        known = self._database.rows("SELECT study, series FROM instance WHERE uid = ?", identity.uid)
        if known:
            same = known[0]["study"] == identity.study and known[0]["series"] == identity.series
            return "known" if same else "other"
        if self._database.rows("SELECT 1 FROM delivery WHERE file = ? LIMIT 1", f"{identity.uid}.dcm"):
            return "own"
        return "late" if self.predicted(identity.series) else "new"

    def add(self, identities: Sequence[Identity]) -> list[Arrival]:
        """Record instances that are stored already, all or none. A new one lets its study wait again until it settles.

        While the study is predicted it keeps its state, because `finish` notices the instance and predicts again.
        One of a series that was predicted before is recorded as late and changes nothing else.
        Raises: FormatError when the disk is full.
        """
        with self._database.step() as step:
            return [self._add(step, identity) for identity in identities]

    def knows(self, uid: str) -> bool:
        """Whether an instance is recorded."""
        return bool(self._database.rows("SELECT 1 FROM instance WHERE uid = ?", uid))

    def predicted(self, series: str) -> set[str]:
        """The names of the rules whose results of a series are recorded."""
        rows = self._database.rows("SELECT rule FROM task WHERE series = ? AND reason = ''", series)
        return {row["rule"] for row in rows}

    def studies(self, state: str) -> list[str]:
        """The studies in a state, the oldest first."""
        return [
            row["uid"] for row in self._database.rows("SELECT uid FROM study WHERE state = ? ORDER BY since", state)
        ]

    def series(self, study: str) -> list[str]:
        """The series of a study."""
        query = "SELECT DISTINCT series FROM instance WHERE study = ? ORDER BY series"
        return [row["series"] for row in self._database.rows(query, study)]

    def instances(self, study: str, series: str | None = None) -> int:
        """How many instances of a study, or of one of its series, count for its prediction: all but late ones."""
        query = "SELECT COUNT(*) FROM instance WHERE study = ? AND late = 0 AND series = COALESCE(?, series)"
        return int(self._database.rows(query, study, series)[0][0])

    def instances_of(self, series: str) -> int:
        """How many instances of a series came in, late ones included."""
        return int(self._database.rows("SELECT COUNT(*) FROM instance WHERE series = ?", series)[0][0])

    def settle(self, study: str) -> None:
        """A study is complete, and is predicted next."""
        self._move(study, "receiving", "queued")

    def take(self) -> str | None:
        """The next study to predict, now `predicting`; None when none is due."""
        with self._database.step() as step:
            row = step.execute(
                "SELECT uid FROM study WHERE state = 'queued' AND due <= ? ORDER BY since LIMIT 1", (self._clock(),)
            ).fetchone()
            if row is None:
                return None
            step.execute("UPDATE study SET state = 'predicting', starts = starts + 1 WHERE uid = ?", (row["uid"],))
        return str(row["uid"])

    def put_back(self, study: str) -> None:
        """A prediction was stopped in order: it begins anew later, and does not count as one that failed."""
        with self._database.step() as step:
            step.execute(
                "UPDATE study SET state = 'queued', starts = starts - 1 WHERE uid = ? AND state = 'predicting'",
                (study,),
            )

    def postpone(self, study: str, reason: str, *, wait: Callable[[int], float], longest: float) -> None:
        """A prediction could not be made, through no fault of the study: it is tried again, or has failed at last.

        Args:
            study: the study.
            reason: why, without anything private.
            wait: seconds to wait, by the number of tries so far.
            longest: seconds after its last instance at which it has failed.
        """
        self.put_back(study)
        with self._database.step() as step:
            row = step.execute("SELECT tries, since FROM study WHERE uid = ?", (study,)).fetchone()
            if self._clock() - row["since"] > longest:
                self._end(step, study, "failed", reason)
                return
            tries = row["tries"] + 1
            values = (tries, self._clock() + wait(tries), reason, study)
            step.execute("UPDATE study SET tries = ?, due = ?, reason = ? WHERE uid = ?", values)

    def recover(self, most: int) -> list[str]:
        """After a kill: studies that were being predicted are queued again, or failed after too many starts."""
        killed = self.studies("predicting")
        with self._database.step() as step:
            for study in killed:
                starts = step.execute("SELECT starts FROM study WHERE uid = ?", (study,)).fetchone()["starts"]
                if starts >= most:
                    self._end(step, study, "failed", f"the node was killed {starts} times while it predicted the study")
                else:
                    step.execute("UPDATE study SET state = 'queued' WHERE uid = ?", (study,))
        return killed

    def finish(self, study: str, seen: int, outcomes: Sequence[SeriesResult]) -> bool:
        """Record the results of a study, to be sent from now on.

        Args:
            study: the study.
            seen: `instances` when the prediction began.
            outcomes: what was made of each series by each rule; none when no rule matches.
        Returns: False when instances have come in meanwhile: nothing is recorded, and the study waits again.
        """
        with self._database.step() as step:
            if self.instances(study) != seen:
                self._end(step, study, "receiving", "")
                return False
            now = self._clock()
            for outcome in outcomes:
                step.execute(
                    "INSERT OR REPLACE INTO task (series, rule, study, reason) VALUES (?, ?, ?, ?)",
                    (outcome.series, outcome.rule, study, outcome.reason),
                )
                step.executemany(
                    "INSERT OR REPLACE INTO delivery (study, file, destination, state, since) "
                    "VALUES (?, ?, ?, 'waiting', ?)",
                    [(study, name, destination, now) for name, to in outcome.files for destination in to],
                )
            self._end(step, study, "sending", "")
            self._close(step, study)
        return True

    def due(self, destination: str) -> list[Delivery]:
        """The results that a destination should get now, all of one study; what was not tried yet comes first."""
        due = "destination = ?1 AND state = 'waiting' AND due <= ?2"
        rows = self._database.rows(
            f"SELECT study, file, destination, tries, since FROM delivery WHERE {due} "
            f"AND study = (SELECT study FROM delivery WHERE {due} ORDER BY due, since LIMIT 1) ORDER BY file",
            destination,
            self._clock(),
        )
        return [Delivery(**row) for row in rows]

    def delivered(self, delivery: Delivery) -> bool:
        """A destination has a result; whether it was the last one, so that the study is answered."""
        self._deliver(delivery, "sent", "", 0)
        return delivery.study in self.without_results([delivery.study])

    def without_results(self, studies: Sequence[str]) -> list[str]:
        """Those of the studies that need no results any more: every destination has them."""
        query = "SELECT 1 FROM delivery WHERE study = ? AND state != 'sent' LIMIT 1"
        return [study for study in studies if not self._database.rows(query, study)]

    def expire(self, studies: Sequence[str], age: float) -> list[str]:
        """Those of the studies that ended so many seconds ago. Their series without a result are forgotten."""
        ended = "SELECT 1 FROM study WHERE uid = ? AND state IN ('answered', 'ignored', 'failed') AND since <= ?"
        unused = "DELETE FROM instance WHERE study = ?1 AND series NOT IN (SELECT series FROM task WHERE study = ?1)"
        with self._database.step() as step:
            expired = [study for study in studies if step.execute(ended, (study, self._clock() - age)).fetchone()]
            step.executemany(unused, [(study,) for study in expired])
        return expired

    def not_delivered(self, delivery: Delivery, reason: str, *, wait: float | None) -> None:
        """A destination did not take a result.

        Args:
            delivery: the result.
            reason: why.
            wait: seconds until it is tried again; None to give up.
        """
        self._deliver(delivery, "failed" if wait is None else "waiting", reason, wait or 0)

    def _add(self, step: sqlite3.Connection, identity: Identity) -> Arrival:
        arrival = self.classify(identity)
        if arrival not in ("new", "late"):
            return arrival
        step.execute(
            "INSERT INTO instance (uid, series, study, late) VALUES (?, ?, ?, ?)",
            (identity.uid, identity.series, identity.study, int(arrival == "late")),
        )
        now = self._clock()
        step.execute(
            "INSERT OR IGNORE INTO study (uid, state, since) VALUES (?, 'receiving', ?)", (identity.study, now)
        )
        if arrival == "new":
            step.execute(
                "UPDATE study SET state = 'receiving', since = ?, reason = '', starts = 0, tries = 0 "
                "WHERE uid = ? AND state != 'predicting'",
                (now, identity.study),
            )
        return arrival

    def _deliver(self, delivery: Delivery, state: str, reason: str, wait: float) -> None:
        with self._database.step() as step:
            step.execute(
                "UPDATE delivery SET state = ?, tries = tries + 1, due = ?, reason = ? "
                "WHERE study = ? AND file = ? AND destination = ?",
                (state, self._clock() + wait, reason, delivery.study, delivery.file, delivery.destination),
            )
            self._close(step, delivery.study)

    def _close(self, step: sqlite3.Connection, study: str) -> None:
        """End a study that has nothing left to send: answered, ignored, or failed with its reasons."""
        state = step.execute("SELECT state FROM study WHERE uid = ?", (study,)).fetchone()["state"]
        waiting = step.execute("SELECT 1 FROM delivery WHERE study = ? AND state = 'waiting' LIMIT 1", (study,))
        if state != "sending" or waiting.fetchone():
            return
        reasons = step.execute(
            "SELECT DISTINCT 'series ' || series || ', ' || rule || ': ' || reason FROM task "
            "WHERE study = ?1 AND reason != '' "
            "UNION SELECT DISTINCT destination || ': ' || reason FROM delivery WHERE study = ?1 AND state = 'failed'",
            (study,),
        ).fetchall()
        tasks = step.execute("SELECT 1 FROM task WHERE study = ? LIMIT 1", (study,)).fetchone()
        if reasons:
            self._end(step, study, "failed", "; ".join(row[0] for row in reasons))
        else:
            self._end(step, study, "answered" if tasks else "ignored", "" if tasks else "no rule matches its series")

    def _move(self, study: str, before: str, after: str) -> None:
        with self._database.step() as step:
            step.execute("UPDATE study SET state = ?, due = 0 WHERE uid = ? AND state = ?", (after, study, before))

    def _end(self, step: sqlite3.Connection, study: str, state: str, reason: str) -> None:
        step.execute(
            "UPDATE study SET state = ?, since = ?, starts = 0, tries = 0, due = 0, reason = ? WHERE uid = ?",
            (state, self._clock(), reason, study),
        )
