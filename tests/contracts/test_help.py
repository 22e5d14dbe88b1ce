"""`attunet --help` answers at once, and so does the help of every command."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "lightning", "monai", "openvino", "numpy", "scipy", "nibabel", "SimpleITK", "matplotlib")
SLOWEST = 0.3
ATTEMPTS = 12

COMMANDS = """
import json, typer
from attunet.cli import app, register
register()
print(json.dumps(sorted(typer.main.get_group(app).commands)))
"""
LOADED_BY_HELP = """
import contextlib, io, json, sys
from attunet.cli import main
loaded = {{}}
sys.argv = {arguments}
with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
    main()
print(json.dumps([len(shown.getvalue()), [name for name in {heavy} if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def commands(fresh_python):
    found = fresh_python(COMMANDS)
    assert found
    return [[], *([name] for name in found)]


def test_help_loads_nothing_heavy(commands, fresh_python):
    for command in commands:
        arguments = json.dumps(["attunet", *command, "--help"])
        length, loaded = fresh_python(LOADED_BY_HELP.format(arguments=arguments, heavy=json.dumps(HEAVY)))
        assert length > 100, f"attunet {command} --help shows nothing"
        assert loaded == [], f"attunet {command} --help imports {loaded}"


def test_help_answers_at_once(commands):
    for command in commands:
        times = []
        while len(times) < ATTEMPTS and min(times, default=SLOWEST) >= SLOWEST:
            times.append(seconds_of_help(command))
        assert min(times) < SLOWEST, f"attunet {command} --help took {min(times):.2f} s"


def seconds_of_help(command):
    """Processor time, which is what a user waits for on an idle machine: other jobs here must not fail the test."""
    code = "import sys; from attunet.cli import main; sys.argv[0] = 'attunet'; main()"
    start = os.times()
    done = subprocess.run([sys.executable, "-c", code, *command, "--help"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    end = os.times()
    return end.children_user + end.children_system - start.children_user - start.children_system
