"""The help of every command imports nothing slow; benchmarks/startup.py times it."""

import json

import pytest

HEAVY = ("torch", "lightning", "monai", "openvino", "numpy", "scipy", "nibabel", "SimpleITK", "matplotlib")

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


@pytest.mark.integration
def test_help_loads_nothing_heavy(commands, fresh_python):
    for command in commands:
        arguments = json.dumps(["attunet", *command, "--help"])
        length, loaded = fresh_python(LOADED_BY_HELP.format(arguments=arguments, heavy=json.dumps(HEAVY)))
        assert length > 100, f"attunet {command} --help shows nothing"
        assert loaded == [], f"attunet {command} --help imports {loaded}"
