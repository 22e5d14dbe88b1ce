"""Kills at random moments do no harm: see chaos/run.py."""

import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[1] / "chaos" / "run.py"


@pytest.mark.slow
def test_kills_at_random_moments_do_no_harm():
    done = subprocess.run([sys.executable, CHAOS, "--kills", "8", "--seed", "3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no harm by 8 kills" in done.stdout
