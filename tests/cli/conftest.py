"""Running one command in this process, as the command line would."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from attunet.cli import console
from attunet.planning import memory
from attunet.planning.memory import MemoryUse


@pytest.fixture(autouse=True)
def _no_dry_step(monkeypatch):
    """Plans are made without the seconds that a dry step in another process takes."""
    monkeypatch.setattr(memory, "measure_step", lambda _plan, _device, precision: MemoryUse(0.5, 1.0))


@pytest.fixture(scope="session")
def invoke():
    """`invoke(command, *arguments)`: what it printed, its exit code, and the error it raised, if any."""

    def run(command, *arguments):
        forget_streams()
        app = typer.Typer()
        app.command()(command)
        try:
            return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])
        finally:
            forget_streams()

    return run


def forget_streams():
    """The runner replaces the streams, which the cached consoles would not notice."""
    console.results.cache_clear()
    console.notes.cache_clear()
