"""What a training reports to its caller, and how it is cancelled."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace

import pytest

from attunet.errors import CancelledError
from attunet.training.callbacks.progress import SILENT, ProgressReporter, TrainingCallbacks, raise_if_cancelled


class Record(TrainingCallbacks):
    """Everything that is reported while a network is trained."""

    def __init__(self):
        self.events = []

    def on_training_start(self):
        self.events.append("start")

    def on_step(self, state):
        self.events.append(state)

    def on_epoch_end(self, state):
        self.events.append(state)

    def on_training_end(self):
        self.events.append("end")


@pytest.fixture
def reported():
    """`reported(rows)`: a reporter of a training with those rows, halfway through, and what it reports."""

    def make(rows, cancelled=None):
        record = Record()
        schedule, history = SimpleNamespace(progress=0.5, elapsed=90.0), SimpleNamespace(rows=rows)
        return ProgressReporter(schedule, history, record, cancelled), record.events

    return make


TRAINER = SimpleNamespace(current_epoch=3)


def test_a_step_reports_the_last_epoch_and_the_last_validation(reported):
    reporter, events = reported([{"loss": 0.9, "dice": 0.25}, {"loss": 0.75}])
    reporter.on_train_batch_end(TRAINER, None, None, None, 0)
    (state,) = events
    assert (state.epoch, state.progress, state.minutes) == (3, 0.5, 1.5)
    assert (state.loss, state.dice, state.validated) == (0.75, 0.25, False)


def test_an_epoch_says_whether_it_was_validated(reported):
    reporter, events = reported([{"loss": 0.9}, {"loss": 0.75, "dice": 0.5}])
    reporter.on_train_epoch_end(TRAINER, None)
    assert (events[0].dice, events[0].validated) == (0.5, True)


def test_nothing_is_known_before_the_first_epoch(reported):
    reporter, events = reported([])
    reporter.on_fit_start(TRAINER, None)
    reporter.on_train_batch_end(TRAINER, None, None, None, 0)
    reporter.on_fit_end(TRAINER, None)
    assert (events[0], events[2]) == ("start", "end")
    assert (events[1].loss, events[1].dice, events[1].validated) == (None, None, False)


def test_a_step_is_reported_before_the_training_is_cancelled(reported):
    cancelled = Event()
    reporter, events = reported([], cancelled)
    reporter.on_train_batch_end(TRAINER, None, None, None, 0)
    cancelled.set()
    with pytest.raises(CancelledError):
        reporter.on_train_batch_end(TRAINER, None, None, None, 1)
    assert len(events) == 2


def test_without_an_event_nothing_is_cancelled():
    raise_if_cancelled(None)
    raise_if_cancelled(Event())


def test_callbacks_may_leave_everything_out():
    assert SILENT.lightning(None, None) == ()
    SILENT.on_case_stored()
    SILENT.on_evaluation(1, 2)
