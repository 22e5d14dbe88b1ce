"""The runtime does not import torch: a hospital server installs neither torch nor what comes with it."""

import json

import numpy as np
import pytest

from attunet.data.formats import write_volume
from attunet.data.volume import Volume

NOT_IN_THE_RUNTIME = {"__main__", "cli", "export", "nn", "training"}
"""Rooms that may import torch; of the command line, each command when it is run."""
ABSENT = ("torch", "lightning", "monai", "blosc2")
TORCH_ENGINES = {"attunet.inference.engines.torch_engine"}

ABSENT_HERE = """
import importlib, json, sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {absent} else super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""

BLOCKED_IMPORT = (
    ABSENT_HERE
    + """
failed = {{}}
for name in {names}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps(failed))
"""
)

COMMAND = (
    ABSENT_HERE
    + """
from attunet.cli import main
sys.argv[1:] = {arguments}
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, sorted(set({absent}) & sys.modules.keys())]))
"""
)


def test_runtime_imports_where_torch_is_absent(modules, fresh_python):
    rooms = {name: [*name.split("."), ""][1] for name in modules}
    assert set(rooms.values()) > NOT_IN_THE_RUNTIME
    names = [name for name, room in rooms.items() if room not in NOT_IN_THE_RUNTIME and name not in TORCH_ENGINES]
    assert fresh_python(BLOCKED_IMPORT.format(absent=json.dumps(ABSENT), names=json.dumps(names))) == {}


def test_every_command_is_offered_where_torch_is_absent(fresh_python):
    code = BLOCKED_IMPORT.format(absent=json.dumps(ABSENT), names=["attunet.cli"])
    assert fresh_python(code + "sys.modules['attunet.cli'].register()\nprint(json.dumps(failed))") == {}


@pytest.fixture
def command(fresh_python):
    """Run `attunet ARGUMENTS` where torch is absent: exit code and what was imported of it after all."""

    def run(*arguments):
        typed = json.dumps([str(argument) for argument in arguments])
        return fresh_python(COMMAND.format(absent=json.dumps(ABSENT), arguments=typed))

    return run


def test_a_plain_prediction_does_not_load_what_draws(fresh_python, tiny_run, tmp_path):
    """Half a second and 40 MB, which only previews and reports need."""
    write_volume(Volume.from_array(np.random.default_rng(0).normal(size=(24, 20, 12))), tmp_path / "scan.nii.gz")
    arguments = ["predict", "-m", tiny_run, "-i", tmp_path / "scan.nii.gz", "-o", tmp_path / "masks"]
    typed = json.dumps([str(argument) for argument in arguments])
    code = COMMAND.format(absent=json.dumps(["matplotlib"]), arguments=typed)
    assert fresh_python(code) == [0, []]


def test_everything_is_predicted_where_torch_is_absent(command, tiny_run, tmp_path):
    write_volume(Volume.from_array(np.random.default_rng(0).normal(size=(24, 20, 12))), tmp_path / "scan.nii.gz")
    extras = ("--attention", "--preview", "--statistics", "--save-probabilities", "--report", tmp_path / "run.json")
    done = command("predict", "-m", tiny_run, "-i", tmp_path / "scan.nii.gz", "-o", tmp_path / "masks", *extras)
    assert done == [0, []]
    names = {"scan.nii.gz", "attention", "probabilities", "preview", "statistics.json"}
    assert {entry.name for entry in (tmp_path / "masks").iterdir()} == names
    assert json.loads((tmp_path / "run.json").read_text())["cases"][0]["error"] is None


def test_engines_are_compared_where_torch_is_absent(command, tiny_run, tmp_path):
    write_volume(Volume.from_array(np.random.default_rng(0).normal(size=(24, 20, 12))), tmp_path / "scan.nii.gz")
    assert command("benchmark", "-m", tiny_run, "-i", tmp_path / "scan.nii.gz", "--repeat", 1) == [0, []]


def test_a_model_and_the_machine_are_described_where_torch_is_absent(command, tiny_run):
    assert command("info") == [0, []]
    assert command("info", tiny_run) == [0, []]


@pytest.mark.parametrize(
    "typed",
    [("train", "data", "-o", "run"), ("convert", "a.pth", "-o", "run"), ("demo",), ("compare", "data", "-o", "out")],
)
def test_what_needs_torch_says_so(typed, command):
    assert command(*typed) == [2, []]
