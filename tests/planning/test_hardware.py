"""The default size for a machine, and its memory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from attunet.planning import hardware
from attunet.planning.hardware import auto_size, free_memory_gb, gpu_memory_gb, machine_of, memory_limit


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Put a program in the place of nvidia-smi; None leaves the machine without one."""

    def install(script):
        if script is not None:
            program = tmp_path / "nvidia-smi"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path) if script is None else f"{tmp_path}{os.pathsep}/bin:/usr/bin")

    return install


@pytest.mark.parametrize(
    ("script", "size"),
    [
        (None, "small"),
        ("echo 8192", "base"),
        ("printf '12000\\n81559\\n'", "large"),
        ("echo '[Not Supported]'", "small"),
        ("true", "small"),
        ("exit 9", "small"),
    ],
)
def test_the_size_follows_the_gpu(script, size, driver):
    driver(script)
    chosen, reason = auto_size()
    assert chosen == size
    assert "chosen for" in reason


def test_the_cpu_is_taken_at_its_word(driver):
    driver("echo 81559")
    assert auto_size("cpu")[0] == "small"
    assert auto_size("cuda")[0] == "large"


def test_a_driver_that_hangs_is_no_gpu(driver, monkeypatch):
    def hang(*arguments, **settings):
        raise subprocess.TimeoutExpired(Path("nvidia-smi").name, settings["timeout"])

    driver("echo 81559")
    monkeypatch.setattr(subprocess, "run", hang)
    assert gpu_memory_gb() == 0.0


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Available memory and files in the place of the system's: `system(GB, **cgroup files)`."""

    def install(available=None, **files):
        monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
        if available is not None:
            memory = SimpleNamespace(available=available * 1024**3)
            monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        for name, text in files.items():
            (tmp_path / name.replace("_dot_", ".")).write_text(text)

    return install


def test_free_memory_comes_from_the_driver(driver):
    driver("case $1 in *free*) echo 10240;; *) echo 81559;; esac")
    assert free_memory_gb("cuda") == 10.0
    assert memory_limit("cuda").gb == 8.0
    assert "80% of what the GPU has free" in memory_limit("cuda").reason


def test_free_memory_comes_from_the_system(system):
    system(available=20)
    assert free_memory_gb("cpu") == 20.0
    assert memory_limit("cpu") == (16.0, "cpu", "80% of what this machine has free")


def test_a_container_has_what_its_limit_leaves(system):
    gb = 1024**3
    system(
        20, memory_dot_max=f"{8 * gb}\n", memory_dot_current=f"{5 * gb}\n", memory_dot_stat=f"inactive_file {2 * gb}\n"
    )
    assert free_memory_gb("cpu") == 5.0


def test_a_container_without_a_limit_has_all(system):
    system(20, memory_dot_max="max\n", memory_dot_current="5\n", memory_dot_stat="inactive_file 2\n")
    assert free_memory_gb("cpu") == 20.0


def test_free_memory_without_system_information_is_a_number(system):
    system()
    assert free_memory_gb("cpu") > 0


def test_what_the_user_allows_is_the_limit():
    assert memory_limit("cpu", 3.5) == (3.5, "cpu", "--memory")


def test_where_training_will_run(driver):
    driver("echo 81559")
    assert [machine_of(device) for device in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    driver("exit 9")
    assert machine_of("auto") == "cpu"


@pytest.mark.parametrize(("allowed", "counted"), [({3}, "1 CPU core;"), ({0, 5}, "2 CPU cores;")])
def test_cores_that_the_process_may_not_use_are_not_counted(allowed, counted, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    assert counted in auto_size("cpu")[1]
