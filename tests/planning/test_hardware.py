"""The default of the size dial, from what the machine says of itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from attunet.planning.hardware import auto_size, gpu_memory_gb


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
