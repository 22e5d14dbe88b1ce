"""No command asks the network for anything: each runs without a way out, under strace."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from attunet.data.formats import write_volume
from attunet.data.volume import Volume

ATTEMPT = re.compile(r"AF_INET|AF_PACKET|/etc/resolv\.conf|/etc/hosts\b")
"""A socket of the internet, or the files that are read to resolve a name. Local sockets connect worker processes, and
look up the user's name."""
IPV6_PROBE = re.compile(r'bind\(.*inet_pton\(AF_INET6, "::1"')
"""How urllib3 finds out on import whether this machine knows IPv6: a socket is bound to loopback and sends nothing.
nibabel imports pydicom where it is installed, which imports urllib3."""
GOLDEN = Path(__file__).parents[1] / "golden"
MARK = "/attunet-command/"
"""A file that does not exist, whose opening marks in the trace where a command starts."""

WATCHED = ("unshare", "-rn", "strace", "--follow-forks", "--seccomp-bpf", "-o")
"""Without a way out; only the calls that are looked at stop."""

DRIVER = """
import json, sys
from attunet.cli import app, register
register()
for number, words in enumerate(json.load(open(sys.argv[1]))):
    try:
        open(f"{mark}{{number}}")
    except OSError:
        pass
    try:
        app(words, standalone_mode=False)
    except SystemExit as end:
        if end.code not in (0, None):
            raise
"""


@cache
def missing():
    """Why this machine cannot watch a process; empty when it can."""
    for name in ("unshare", "strace"):
        if shutil.which(name) is None:
            return f"{name} is not installed"
    tried = subprocess.run([*WATCHED, "/dev/null", "-e", "trace=network", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this machine allows no network namespaces, or no tracing"


@pytest.fixture
def attempts(tmp_path):
    """Run commands one after another in one process: for each, what it tried to reach; and what is left in HOME."""
    if reason := missing():
        pytest.skip(reason)

    def run(*commands):
        home, typed, log = tmp_path / "home", tmp_path / "commands.json", tmp_path / "trace"
        home.mkdir()
        typed.write_text(json.dumps([[str(word) for word in words] for words in commands]))
        traced = [*WATCHED, log, "-e", "trace=network,openat"]
        done = subprocess.run(
            [*traced, sys.executable, "-c", DRIVER.format(mark=MARK), typed],
            env={name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found = {f"{number}: {' '.join(map(str, words[:4]))}": [] for number, words in enumerate(commands)}
        names, current = list(found), []
        for line in log.read_text(errors="replace").splitlines():
            if MARK in line:
                current = found[names[int(line.partition(MARK)[2].partition('"')[0])]]
            elif IPV6_PROBE.search(line):
                current.pop()  # its socket
            elif ATTEMPT.search(line):
                current.append(line)
        return found, {path.relative_to(home).parts[0] for path in home.rglob("*") if path.is_file()}

    return run


def test_the_watch_notices_an_attempt(attempts, tmp_path, monkeypatch):
    """Telemetry of a package that a user's own module imports is not ours: here it is the test of the test."""
    plugin = tmp_path / "sitecustomize.py"
    plugin.write_text("import atexit, socket\natexit.register(lambda: socket.socket().connect_ex(('1.1.1.1', 9)))\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    found, _ = attempts(["info"])
    assert found["0: info"]


@pytest.mark.integration
def test_commands_of_the_runtime_ask_nothing(attempts, tiny_run, tmp_path):
    data = tmp_path / "data"
    for kind in ("images", "labels"):
        (data / kind).mkdir(parents=True)
        array = np.random.default_rng(0).normal(size=(20, 16, 8))
        write_volume(
            Volume.from_array(array if kind == "images" else (array > 1).astype(np.uint8)), data / kind / "a.nii"
        )
    scan, masks = data / "images" / "a.nii", tmp_path / "masks"
    extras = ("--attention", "--preview", "--statistics", "--save-probabilities", "--report", tmp_path / "run.json")
    found, left = attempts(
        ["info"],
        ["info", tiny_run],
        ["inspect", data],
        ["plan", data, "-o", tmp_path / "plan.json"],
        ["predict", "-m", tiny_run, "-i", scan, "-o", masks, *extras],
        ["evaluate", data / "labels", masks, "--labels", "body=1", "-o", tmp_path / "summary.json"],
        ["benchmark", "-m", tiny_run, "-i", scan, "--repeat", "1"],
    )
    assert not {command: lines for command, lines in found.items() if lines}
    assert left <= {".cache", ".config"}  # matplotlib's fonts, nothing that names a machine


@pytest.mark.slow
def test_commands_of_training_and_export_ask_nothing(attempts, write_blobs, tmp_path):
    data, recipe = write_blobs(tmp_path / "data", cases=6), tmp_path / "recipe.yaml"
    recipe.write_text("steps_per_epoch: 2\nwarmup_steps: 1\nfolds: 2\nworkers: 1\nvalidation_fraction: 1.0\n")
    budget = ("--recipe", recipe, "--size", "small", "--store", tmp_path / "store")
    one, two = tmp_path / "one", tmp_path / "two"
    formats = ("openvino", "onnx", "torch", "monai")
    found, left = attempts(
        ["train", data, "-o", one, "--epochs", 1, "--fold", "all", "--no-film", *budget],
        ["train", data, "-o", two, "--epochs", 1, "--fold", "all", "--logger", "tensorboard", *budget],
        ["train", data, "-o", one, "--epochs", 2, "--resume", "--store", tmp_path / "store"],
        ["evaluate", "--cross-validation", one],
        ["explain", "-m", two, "-o", tmp_path / "explained", "--ablate", "--faithfulness"],
        ["select", one, two, "-o", tmp_path / "best"],
        ["compare", one, two, "-o", tmp_path / "compared"],
        *(["export", "-m", one, "-o", tmp_path / name, "--format", name] for name in formats),
        ["export", "-m", one, "-o", tmp_path / "int8", "--int8"],
        *(
            ["predict", "-m", tmp_path / name, "-i", data / "images", "-o", tmp_path / f"m_{name}"]
            for name in formats[:3]
        ),
        ["benchmark", "-m", one, "-i", data / "images" / "case0.nii", "--repeat", "1", "--write"],
        ["convert", GOLDEN / "oktay_unet" / "weights.safetensors", "-o", tmp_path / "converted"],
        ["demo", "-o", tmp_path / "demo", "--max-time", "10s"],
    )
    assert not {command: lines for command, lines in found.items() if lines}
    assert left <= {".cache", ".config"}
    assert not list(one.rglob("*attention_frames*"))
    cases = [path.name.partition(".")[0] for path in (data / "images").iterdir()]
    words = [word.encode() for word in (*cases, str(tmp_path))]
    for copy in ("best", *formats, "int8"):
        for path in (path for path in (tmp_path / copy).rglob("*") if path.is_file()):
            content = path.read_bytes()
            assert not [word for word in words if word in content], path
