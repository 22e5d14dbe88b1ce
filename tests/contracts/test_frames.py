"""The call stack from the command to the network is short: it has few of our own frames."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import attunet
from attunet.cli import console, main
from attunet.data.formats import write_volume
from attunet.data.volume import Volume
from attunet.inference.engines.protocol import EngineOutput

MOST_FRAMES = 9
SOURCE = Path(attunet.__file__).parent


def own_frames(frame):
    """Names of the functions of the package on a stack, the innermost first."""
    names = []
    while frame is not None:
        if SOURCE in Path(frame.f_code.co_filename).parents:
            names.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
        frame = frame.f_back
    return names


class Probe:
    """An engine that remembers how it was called."""

    name, batch = "probe", 1

    def __init__(self):
        self.stacks = []

    def __call__(self, patches):
        caller = own_frames(sys._current_frames()[threading.main_thread().ident])
        self.stacks.append([*own_frames(sys._getframe()), *caller])
        return EngineOutput(np.zeros((len(patches), 3, *patches.shape[2:]), np.float32), {})


def test_few_frames_lie_between_the_command_and_the_engine(tiny_run, tmp_path, monkeypatch):
    probe = Probe()
    monkeypatch.setattr("attunet.inference.segmenter.make_engine", lambda *_arguments, **_options: probe)
    image = np.random.default_rng(0).normal(100, 30, (1, 20, 16, 10)).astype(np.int16)
    write_volume(Volume(image, np.eye(4)), tmp_path / "scan.nii.gz")
    command = ["predict", "-m", tiny_run, "-i", tmp_path / "scan.nii.gz", "-o", tmp_path / "masks", "--fold", "0"]
    monkeypatch.setattr(sys, "argv", ["attunet", *map(str, command)])
    console.notes.cache_clear()
    console.results.cache_clear()
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert probe.stacks
    assert probe.stacks[0][-1] == "__init__.main"
    longest = max(probe.stacks, key=len)
    assert len(longest) <= MOST_FRAMES, longest
