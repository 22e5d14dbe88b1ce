"""The bar of a training on a terminal, and its lines in a log."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress

from attunet.cli import training_progress
from attunet.cli.training_progress import EpochLines, TrainingBar

TRAINER = SimpleNamespace(current_epoch=4)


@pytest.fixture
def schedule():
    return SimpleNamespace(progress=0.25)


@pytest.fixture
def history():
    return SimpleNamespace(rows=[])


def row(loss, **validated):
    return {"epoch": 3.0, "minutes": 1.5, "loss": loss, **validated}


def test_the_bar_shows_epoch_loss_live_dice_and_how_far_it_is(schedule, history):
    progress = Progress(console=Console(file=io.StringIO()))
    tasks = [
        progress.add_task(name, total=None, visible=name == "store") for name in ("store", "train fold 0", "judge")
    ]
    bar = TrainingBar(progress, *tasks, schedule, history)
    bar.on_fit_start(TRAINER, None)
    assert [task.visible for task in progress.tasks] == [False, True, False]
    bar.on_train_batch_end(TRAINER, None, None, None, 0)
    shown = progress.tasks[1]
    assert shown.description == "train fold 0 · epoch 4"
    history.rows += [row(0.5, dice=0.75), row(0.25)]
    bar.on_train_batch_end(TRAINER, None, None, None, 0)
    assert shown.description == "train fold 0 · epoch 4 · loss 0.250 · Dice 0.750"
    assert shown.completed / shown.total == 0.25
    bar.on_fit_end(TRAINER, None)
    assert [task.visible for task in progress.tasks] == [False, False, True]


@pytest.fixture
def log(monkeypatch):
    """Where the lines go, on a machine whose clock is told the time."""
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(training_progress, "notes", lambda: console)
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(training_progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return SimpleNamespace(console=console, clock=clock, lines=lambda: console.file.getvalue().splitlines())


def test_a_log_gets_a_line_per_validation_every_20_seconds_and_at_the_end(schedule, history, log):
    lines = EpochLines(schedule, history)

    def end_epoch(seconds, **validated):
        log.clock.now += seconds
        history.rows.append(row(0.5, **validated))
        lines.on_train_epoch_end(TRAINER, None)
        return len(log.lines())

    assert end_epoch(1) == 0
    assert end_epoch(1, dice=0.75) == 1
    assert end_epoch(1, dice=0.8) == 1
    assert end_epoch(20, dice=0.8) == 2
    schedule.progress = 1.0
    assert end_epoch(1, dice=0.9) == 3
    assert log.lines()[0] == "epoch 4: 1.5 min, 25% done, loss 0.500, Dice 0.750"


def test_a_terminal_gets_the_bar_only(schedule, history, log):
    log.console._force_terminal = True
    history.rows.append(row(0.5, dice=0.75))
    EpochLines(schedule, history).on_train_epoch_end(TRAINER, None)
    assert log.lines() == []
