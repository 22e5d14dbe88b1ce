"""Real training runs on public data, if the folder ../shared/data exists next to the project."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunet.cli import app, register
from attunet.evaluation.summary import Summary

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(("name", "budget", "lowest"), [("hippocampus", "3m", 0.84), ("nuclei", "3m", 0.85)])
def test_minutes_of_training_reach_what_they_should(name, budget, lowest, tmp_path):
    if not app.registered_commands:
        register()
    typed = ["train", str(DATA / name), "-o", str(tmp_path / "run"), "--max-time", budget, "--device", "cpu"]
    done = CliRunner().invoke(app, [*typed, "--store", str(tmp_path / "store")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert Summary.read(tmp_path / "run" / "fold_0" / "metrics.json").foreground_mean() >= lowest
