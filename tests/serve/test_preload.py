"""What a worker loads before its first job."""

import shutil
import subprocess
import sys

from attunet.serve.preload import preload
from attunet.serve.shelf import ModelShelf

NEW = """
import sys
from pathlib import Path
from attunet.serve.shelf import ModelShelf
from attunet.serve.preload import preload
before = set(sys.modules)
preload(ModelShelf({"organs": Path(sys.argv[1])}), "organs", lambda: False)
between = set(sys.modules)
from attunet.serve.prediction_job import JobRun
from attunet.explanation.prediction_hook import PredictionHook
print(len(between - before) > 100, sorted(set(sys.modules) - between))
"""


def test_a_job_has_nothing_left_to_import(gated):
    answer = subprocess.run([sys.executable, "-c", NEW, gated], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "True []"


def test_the_model_is_there(gated, tiny_run):
    shelf = ModelShelf({"organs": gated, "other": tiny_run})
    preload(shelf, "organs", lambda: False)
    assert shelf.loaded == ("organs",)


def test_a_job_that_runs_loads_its_own(gated):
    shelf = ModelShelf({"organs": gated})
    preload(shelf, "organs", lambda: True)
    assert shelf.loaded == ()


def test_a_model_beyond_the_limit_waits_for_a_job(gated):
    shelf = ModelShelf({"organs": gated}, limit=1000)
    preload(shelf, "organs", lambda: False)
    assert shelf.loaded == ()


def test_a_model_that_cannot_be_loaded_is_told_and_stops_nothing(gated, tmp_path):
    broken = shutil.copytree(gated, tmp_path / "broken")
    next(broken.rglob("graph.bin")).write_bytes(b"")
    heard = []
    preload(ModelShelf({"organs": broken}, on_load=lambda *told: heard.append(told)), "organs", lambda: False)
    assert [name for name, _ in heard] == ["organs"]
    assert heard[0][1]
