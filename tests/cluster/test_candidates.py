"""`select` on the workers of an engine finds what one machine finds."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from itertools import count
from threading import Event

import pytest

from attunet.cluster.candidates import ClusterCandidates
from attunet.cluster.tasks import Attempt, Ticket
from attunet.errors import AttunetError, CancelledError, EngineError
from attunet.selection.ensemble import select

LABELS = {"background": 0, "blob": 1}


class Worker:
    """An engine of one worker in this process, which may die a number of times."""

    deaths = 0

    def __init__(self, make, payload):
        self.work, self.payload, self.tickets = pickle.loads(pickle.dumps(make))(), payload, count(1)
        self.running = None

    def start(self, task, avoid):
        if self.running is not None:
            return None
        self.running = (task.name, next(self.tickets))
        return Ticket(self.running[1], "n0")

    def wait(self, timeout):
        (name, number), self.running = self.running, None
        known = {"task": name, "ticket": number, "node": "n0", "seconds": 1.0}
        if Worker.deaths:
            Worker.deaths -= 1
            return [Attempt(**known, lost="worker", reason="out of memory")]
        try:
            answer = self.work(pickle.loads(pickle.dumps(self.payload(name))))
        except AttunetError as error:
            return [Attempt(**known, error=error.message, hint=error.hint)]
        return [Attempt(**known, value=pickle.loads(pickle.dumps(answer)))]

    def cancel(self, ticket):
        self.running = None

    def refusal(self, task):
        return ""

    def nodes(self):
        return {"n0": 1}

    def time(self):
        return 0.0

    def close(self):
        pass


@pytest.fixture
def runs(folded, tmp_path):
    return {"a": folded, "b": shutil.copytree(folded, tmp_path / "other")}


def without_times(selection):
    return [
        (each.members, {case: replace(score, seconds=0.0) for case, score in each.scores.items()})
        for each in selection.candidates
    ]


def test_the_selection_is_that_of_one_machine(runs, tmp_path):
    seen = []
    Worker.deaths = 2
    runner = ClusterCandidates(Worker, device="cpu")
    found = select(
        runs, tmp_path / "cluster", device="cpu", progress=lambda *counts: seen.append(counts), runner=runner
    )
    alone = select(runs, tmp_path / "alone", device="cpu")
    assert repr(without_times(found)) == repr(without_times(alone))  # nan
    assert found.chosen.members == alone.chosen.members
    assert seen == [(3, 6), (6, 6)]
    assert (tmp_path / "cluster" / "selection.json").exists()


def test_a_case_that_cannot_be_used_is_told(runs, tmp_path):
    Worker.deaths = 0
    (tmp_path / "blobs" / "images" / "case0.nii").write_bytes(b"damaged")
    found = select(runs, device="cpu", runner=ClusterCandidates(Worker, device="cpu"))
    assert found.failed.keys() == {"case0"}


def test_a_fold_whose_workers_die_is_an_error(runs):
    Worker.deaths = 3
    with pytest.raises(EngineError, match=r"1 of 2 folds could not be evaluated: fold_\d: lost 3 workers"):
        select(runs, device="cpu", runner=ClusterCandidates(Worker, device="cpu"))


def test_it_can_be_cancelled(runs):
    Worker.deaths, cancelled = 0, Event()
    runner = ClusterCandidates(Worker, device="cpu", on_event=lambda _: cancelled.set())
    with pytest.raises(CancelledError):
        select(runs, device="cpu", cancelled=cancelled, runner=runner)
