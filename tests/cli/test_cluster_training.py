"""Folds on a cluster, as the console shows them, and the workers that the options ask for."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from rich.console import Console
from rich.progress import Progress

from attunet.bundle import save_plan
from attunet.cli import cluster_training, training_progress
from attunet.cli.cluster_training import FoldsDisplay, fold_workers
from attunet.errors import ConfigError
from attunet.training.callbacks.fold_progress import FoldProgress

ATTUNET = [sys.executable, "-c", "import sys; from attunet.cli import main; sys.argv[0] = 'attunet'; main()"]


@pytest.fixture
def lines(monkeypatch):
    """What is printed without a terminal."""
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    for module in (cluster_training, training_progress):
        monkeypatch.setattr(module, "notes", lambda: console)
    return lambda: stream.getvalue().splitlines()


def finished(folder):
    return SimpleNamespace(folder=folder, summary=SimpleNamespace(foreground_mean=lambda: 0.875))


def test_each_running_fold_has_a_bar_with_its_node(lines, tmp_path):
    progress = Progress(console=Console(file=io.StringIO()))

    def shown():
        return [task.description for task in progress.tasks]

    with FoldsDisplay(lambda: iter([progress])) as display:
        display.on_fold_start(0, tmp_path)
        assert shown() == []
        display.on_fold_running("run/fold_0", "n0", None)
        display.on_fold_running("run/fold_1", "n1", FoldProgress(cases=3))
        assert shown() == ["run/fold_0 on n0 · starting", "run/fold_1 on n1 · preprocessed 3 cases"]
        told = FoldProgress(
            stage="train", network="localizer 1 of 2", epoch=4, progress=0.25, loss=0.5, dice=0.75, cases=0
        )
        display.on_fold_running("run/fold_1", "n1", told)
        assert shown()[1] == "run/fold_1 on n1 · localizer 1 of 2 · epoch 4 · loss 0.500 · Dice 0.750"
        assert progress.tasks[1].completed / progress.tasks[1].total == 0.25
        display.on_fold_running("run/fold_1", "n1", FoldProgress(stage="validate", cases=2))
        assert shown()[1] == "run/fold_1 on n1 · evaluated 2 cases"
        display.on_fold_lost("run/fold_1", "n1", 1, "killed by signal 9")
        assert shown() == ["run/fold_0 on n0 · starting"]
        display.on_fold_end(finished(tmp_path / "run" / "fold_0"))
        assert shown() == []
        display.on_fold_running("run/fold_1", "n0", None)
        display.on_fold_failed("run/fold_1", "n0", "lost 3 workers")
        assert shown() == []
    assert len(display.folds) == 1
    assert [line for line in lines() if any(word in line for word in ("lost", "finished", "failed"))] == [
        "run/fold_1: lost on n1 (killed by signal 9); continued from its last checkpoint",
        "run/fold_0: finished, mean Dice 0.8750",
        "run/fold_1: failed on n0: lost 3 workers; the other folds go on",
    ]


def test_without_a_terminal_lines_are_few(lines):
    now = [0.0]
    with FoldsDisplay(clock=lambda: now[0]) as display:
        display.on_fold_running("run/fold_0", "n0", None)
        for _ in range(50):
            now[0] += 1.0
            display.on_fold_running("run/fold_0", "n0", FoldProgress(stage="train", epoch=2, progress=0.5, dice=0.8))
    assert lines() == ["run/fold_0: on n0"] + ["run/fold_0 on n0 · epoch 2 · Dice 0.800 · 50% done"] * 3


@pytest.fixture
def asked(monkeypatch):
    """The workers that options ask for on a machine of 16 cores."""
    monkeypatch.setattr(cluster_training, "available_cores", lambda: tuple(range(16)))

    def ask(*, gpus_here=0, engine="ray", address=None, workers=None, cpus=None, gpus=None, device="auto", jobs=5):
        monkeypatch.setattr(cluster_training, "_gpus_here", lambda: gpus_here)
        made = fold_workers(engine, address, workers, cpus, gpus, device, jobs=jobs)
        return made and (made.workers.cpus, made.workers.gpus, made.device)

    return ask


def test_folds_share_the_cores_or_the_gpus_of_this_machine(asked):
    assert asked(engine="local") is None
    assert asked() == (3, 0.0, "cpu")
    assert asked(workers=2) == (8, 0.0, "cpu")
    assert asked(jobs=40) == (1, 0.0, "cpu")
    assert asked(gpus_here=4) == (4, 1.0, "auto")
    assert asked(gpus_here=4, device="cpu") == (3, 0.0, "cpu")
    assert asked(gpus_here=4, gpus=2.0) == (8, 2.0, "auto")
    assert asked(gpus_here=4, cpus=2) == (2, 0.0, "cpu")
    assert asked(address="auto", gpus_here=4) == (1, 0.0, "cpu")
    assert asked(address="auto", gpus=1.0, cpus=6, device="cuda") == (6, 1.0, "cuda")


def test_options_that_contradict_each_other_are_refused(asked):
    with pytest.raises(ConfigError, match="needs GPUs"):
        asked(address="auto", device="cuda")
    with pytest.raises(ConfigError, match="needs no GPUs"):
        asked(device="cpu", gpus=1.0)
    with pytest.raises(ConfigError, match="--workers is an option of a cluster"):
        asked(engine="local", workers=2)


def command_of(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def kill_a_worker(program, run):
    """Kill the first worker of a running program whose fold has told of its progress; returns its children then."""
    while program.poll() is None:
        children = program.children(recursive=True)
        busy = [child for child in children if "RayActor.do" in command_of(child)]
        if busy and any(run.glob("fold_*/checkpoints/progress.json")):
            busy[0].kill()
            return children
        time.sleep(0.05)
    pytest.fail(program.communicate()[1])


@pytest.fixture
def on_ray(write_blobs, tiny_plan, tiny_config, tmp_path):
    """The arguments of a training of two tiny folds, and those that train them on two workers."""

    def make(epochs):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            yaml.safe_dump(tiny_config(epochs=epochs, case_images=False, int8=False).model_dump(mode="json"))
        )
        save_plan(tiny_plan(), tmp_path)
        usual = ["train", write_blobs(tmp_path / "data"), "--recipe", recipe, "--plan", tmp_path / "plan.json"]
        usual += ["--fold", "all", "--device", "cpu", "--store", tmp_path / "store"]
        return usual, ["-o", tmp_path / "ray", "--engine", "ray", "--workers", "2", "--cpus-per-worker", "1"]

    return make


@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
@pytest.mark.slow
def test_folds_on_ray_are_those_of_one_process_though_a_worker_is_killed(on_ray, tmp_path):
    usual, ray = on_ray(epochs=3)
    with psutil.Popen([*ATTUNET, *usual, *ray], stderr=subprocess.PIPE, text=True) as program:
        children = kill_a_worker(program, tmp_path / "ray")
        _, told = program.communicate()
    assert program.returncode == 0, told
    assert "continued from its last checkpoint" in told
    assert not [child for child in children if child.is_running()]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*ATTUNET, *usual, "-o", tmp_path / "alone"], env=one_thread, check=True, capture_output=True)
    names = ["folds.yaml", "fold_0/weights.safetensors", "fold_1/weights.safetensors"]
    runs = [[(tmp_path / run / name).read_bytes() for name in names] for run in ("ray", "alone")]
    assert runs[0] == runs[1]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
def test_an_interrupt_stops_all_folds_and_leaves_nothing(on_ray, tmp_path):
    usual, ray = on_ray(epochs=5000)
    with psutil.Popen([*ATTUNET, *usual, *ray], stderr=subprocess.PIPE, text=True) as program:
        while program.poll() is None and len([*tmp_path.glob("ray/fold_*/checkpoints/last.ckpt")]) < 2:
            time.sleep(0.1)
        children = program.children(recursive=True)
        program.send_signal(signal.SIGINT)
        _, told = program.communicate()
    assert program.returncode == 130, told
    assert "stopped: resume with the same command and --resume" in told
    assert not [child for child in children if child.is_running()]
    assert not [*Path("/tmp").glob(f"attunet-ray-{program.pid}-*")]
    assert not [*tmp_path.rglob("progress.json")]
