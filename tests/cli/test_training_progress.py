"""Progress bars of training on a terminal, and lines in a log."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
import typer
from rich.console import Console
from rich.progress import Progress

from attunet.cli import training_progress
from attunet.cli.training_progress import TrainingDisplay, stoppable
from attunet.training.callbacks.progress import TrainingState


def state(**changes):
    return TrainingState(**{"epoch": 4, "progress": 0.25, "minutes": 1.5, "loss": 0.5, **changes})


def test_the_bar_shows_epoch_loss_live_dice_and_how_far_it_is(tmp_path):
    progress = Progress(console=Console(file=io.StringIO()))

    def visible():
        return [task.visible for task in progress.tasks]

    with TrainingDisplay(bars=lambda: iter([progress])) as display:
        display.on_fold_start(0, tmp_path)
        display.on_case_stored()
        assert visible() == [True, False, False]
        display.on_training_start()
        assert visible() == [False, True, False]
        shown = progress.tasks[1]
        assert shown.description == "train fold 0"
        display.on_step(state(loss=None))
        assert shown.description == "train fold 0 · epoch 4"
        display.on_step(state(loss=0.25, dice=0.75))
        assert shown.description == "train fold 0 · epoch 4 · loss 0.250 · Dice 0.750"
        assert shown.completed / shown.total == 0.25
        display.on_training_end()
        assert visible() == [False, False, True]
        display.on_case_evaluated()
        assert progress.tasks[2].completed == 1
        display.on_evaluation(1, 4)
        assert (progress.tasks[3].completed, progress.tasks[3].total) == (1, 4)


def test_the_bar_names_the_network_of_a_cascade(tmp_path):
    progress = Progress(console=Console(file=io.StringIO()))
    with TrainingDisplay(bars=lambda: iter([progress])) as display:
        display.on_fold_start(1, tmp_path)
        _, train, validate = progress.tasks
        for network in ("localizer 1 of 2", "segmentation network"):
            display.on_network_start(network)
            display.on_training_start()
            assert train.description == f"train fold 1 · {network}"
            assert (train.visible, validate.visible) == (True, False)
            display.on_training_end()


@pytest.fixture
def log(monkeypatch):
    """Where the lines go, on a machine whose clock is set by the test."""
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(training_progress, "notes", lambda: console)
    clock = SimpleNamespace(now=100.0)
    display = TrainingDisplay(clock=lambda: clock.now)
    return SimpleNamespace(console=console, clock=clock, display=display, text=console.file.getvalue)


def test_a_log_gets_a_line_per_validation_every_20_seconds_and_at_the_end(log):
    def lines_after(seconds, **changes):
        log.clock.now += seconds
        log.display.on_epoch_end(state(**changes))
        return len(log.text().splitlines())

    assert lines_after(1) == 0
    assert lines_after(1, dice=0.75, validated=True) == 1
    assert lines_after(1, dice=0.8, validated=True) == 1
    assert lines_after(30, dice=0.8) == 1
    assert lines_after(1, dice=0.8, validated=True) == 2
    assert lines_after(1, dice=0.9, validated=True, progress=1.0) == 3
    assert log.text().splitlines()[0] == "epoch 4: 1.5 min, 25% done, loss 0.500, Dice 0.750"


def test_a_terminal_gets_the_bar_only(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(training_progress, "notes", lambda: console)
    TrainingDisplay().on_epoch_end(state(dice=0.75, validated=True))
    assert console.file.getvalue() == ""


def test_warnings_and_the_plan_of_a_run_are_shown(log, tiny_plan, tmp_path):
    log.display.on_plan(tiny_plan(), "run", tmp_path)
    log.display.on_warning("the [machine] is busy")
    assert f"using the plan in {tmp_path / 'plan.json'}" in log.text()
    assert "the [machine] is busy" in log.text()


def test_a_stop_says_how_to_resume(log):
    with pytest.raises(typer.Exit) as left, stoppable("the same command"):
        raise KeyboardInterrupt
    assert left.value.exit_code == 130
    assert "stopped: resume with the same command" in log.text()
