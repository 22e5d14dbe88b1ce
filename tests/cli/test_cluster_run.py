"""What is said about a run on a cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from attunet.cli import cluster_run
from attunet.cli.cluster_run import ClusterDisplay, describe_progress
from attunet.cli.console import progress_bar
from attunet.cluster.ledger import LEDGER, read_ledger
from attunet.cluster.prediction import RunProgress
from attunet.cluster.tasks import TaskEvent
from attunet.data.formats import read_label, write_volume
from attunet.data.volume import Volume


@pytest.mark.parametrize(
    ("progress", "seconds", "text"),
    [
        (RunProgress(total=10), 5, "0 of 10 cases, 0.0 a minute"),
        (
            RunProgress(total=10, done=4, failed=1, share=0.25),
            60,
            "5 of 10 cases, 5.0 a minute, 3 min 0 s left, 1 failed",
        ),
        (RunProgress(total=10, done=1, share=0.001), 60, "1 of 10 cases, 1.0 a minute, 16 h 39 min left"),
        (RunProgress(total=10, done=10, share=1.0), 30, "10 of 10 cases, 20.0 a minute"),
    ],
)
def test_progress_in_words(progress, seconds, text):
    assert describe_progress(progress, seconds) == text


def test_without_a_terminal_there_are_lines_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(cluster_run, "PAUSE", 0.0)
    progress = RunProgress(total=4, done=3, share=0.75, by_node=Counter({"b": 1, "a": 2}), running=Counter({"a": 1}))
    with progress_bar() as bars:
        display = ClusterDisplay(bars)
        display.on_event(TaskEvent(kind="done", task="x", node="a"), progress)
        display.on_event(TaskEvent(kind="lost", task="y", node="b", tries=2, reason="killed by signal 9"), progress)
    told = capsys.readouterr().err
    assert "3 of 4 cases" in told
    assert "by node: a 2, b 1" in told
    assert "y: try 2 was lost on b: killed by signal 9" in told


def attunet(*words, home, **how):
    """A command in a process of its own."""
    environment = os.environ | {"HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-m", "attunet", *map(str, words)], env=environment, stderr=subprocess.PIPE, text=True, **how
    )


@pytest.fixture
def scans(tmp_path):
    for index in range(4):
        array = np.random.default_rng(index).normal(100, 30, (1, 20 + index, 16, 10)).astype(np.int16)
        write_volume(Volume(array, np.eye(4)), tmp_path / "scans" / f"scan{index}.nii.gz")
    (tmp_path / "scans" / "damaged.nii.gz").write_bytes(b"no image")
    return tmp_path / "scans"


@pytest.mark.integration
def test_a_run_on_ray_equals_that_of_one_machine(tiny_run, scans, tmp_path):
    """About fifteen seconds, most of them for the start of Ray."""
    pytest.importorskip("ray")
    home = tmp_path / "home"
    home.mkdir()
    words = ["predict", "-m", tiny_run, "-i", scans, "--device", "cpu", "--statistics"]
    ends = {}
    for name, more in (("local", ()), ("ray", ("--engine", "ray", "--workers", "2"))):
        program = attunet(*words, "-o", tmp_path / name, *more, home=home)
        ends[name] = program.communicate()[1], program.returncode
    assert [code for _, code in ends.values()] == [1, 1], ends
    assert "damaged" in ends["ray"][0]
    assert "4 of 5 cases written" in ends["ray"][0]
    for path in (tmp_path / "local").glob("*.nii.gz"):
        np.testing.assert_array_equal(read_label(path).array, read_label(tmp_path / "ray" / path.name).array)
    statistics = [json.loads((tmp_path / name / "statistics.json").read_text()) for name in ends]
    assert statistics[0] == statistics[1]
    assert read_ledger(tmp_path / "ray" / LEDGER)["damaged"].state == "failed"
    assert not list(home.iterdir())


@pytest.mark.slow
def test_ctrl_c_finishes_what_runs_and_a_kill_loses_nothing(tiny_run, scans, tmp_path):
    pytest.importorskip("ray")
    for index in range(4, 60):
        shutil.copy(scans / "scan0.nii.gz", scans / f"scan{index}.nii.gz")
    (scans / "damaged.nii.gz").unlink()
    words = ["predict", "-m", tiny_run, "-i", scans, "-o", tmp_path / "masks", "--device", "cpu", "--engine", "ray"]
    words += ["--workers", 2, "--step-size", 0.2, "--continue-prediction"]
    ledger = tmp_path / "masks" / LEDGER
    for number in (signal.SIGINT, signal.SIGKILL):
        already = len(list((tmp_path / "masks").glob("*.nii.gz")))
        program = attunet(*words, home=tmp_path, start_new_session=True)
        while len(list((tmp_path / "masks").glob("*.nii.gz"))) < already + 5:
            assert program.poll() is None
            time.sleep(0.02)
        if number == signal.SIGINT:
            os.killpg(program.pid, number)  # as a terminal does
        else:
            program.send_signal(number)
        told = program.communicate()[1]
        assert program.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), told
        masks = {path.name.split(".")[0] for path in (tmp_path / "masks").glob("*.nii.gz")}
        if number == signal.SIGINT:
            assert "--continue-prediction" in told
            assert {name for name, row in read_ledger(ledger).items() if row.state == "done"} == masks
    before = ledger.stat().st_size
    program = attunet(*words, home=tmp_path)
    assert program.communicate() is not None
    assert program.returncode == 0
    rows = [json.loads(line) for line in ledger.read_bytes()[before:].splitlines() if line.strip()]
    missing = {f"scan{index}" for index in range(60)} - masks
    started = {row["case"] for row in rows if row["state"] == "running"}
    assert started <= missing
    assert len(missing - started) <= 2  # published by the workers of the driver that was killed, before they ended
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 60
