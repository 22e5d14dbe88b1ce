"""Every command with narrow, non-UTF-8 and closed output: its work is done as otherwise, and nothing is a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

DRIVER = """
import io, json, os, sys
import matplotlib.figure, nibabel, openvino, torch, typer
from attunet import cli, explanation, export, inference, report, selection

def run(arguments, how):
    output = sys.argv[1] + "/output"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        for number in (1, 2):
            os.dup2(os.open(output + str(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.close(reader)
        if how == "closed":
            os.close(1)
            sys.stdout = None
        elif how == "pipe":
            os.dup2(writer, 1)
        os.close(writer)
        sys.argv = ["attunet", *arguments]
        try:
            cli.main()
        except SystemExit as done:
            sys.stdout.flush()
            os._exit(done.code or 0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(99)
    os.close(writer)
    os.close(reader)  # before anything is written, as by `| true`
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    printed, errors = (open(output + str(number), "rb").read().decode("ascii") for number in (1, 2))
    return code, printed, errors

print(json.dumps([run(arguments, how) for arguments, how in json.load(sys.stdin)]))
"""
COMMANDS = ("demo", "inspect", "plan", "train", "predict", "explain", "evaluate")
COMMANDS += ("select", "compare", "convert", "export", "benchmark", "info")
NAME = "l\xe4sion \u809d"


@pytest.fixture(scope="module")
def jobs(tmp_path_factory, write_blobs, make_model):
    """Command lines and the exit codes they have with any output."""
    root = tmp_path_factory.mktemp("streams")
    model = str(shutil.copytree(make_model(2, labels={"background": 0, NAME: 1}), root / f"model {NAME}"))
    data = write_blobs(root / "data", cases=1)
    for kind in ("images", "labels"):
        (data / kind / "case0.nii").rename(data / kind / f"{NAME}.nii")
    masks, missing = str(root / "masks"), str(root / f"no {NAME}")
    helps = {f"{name} --help": ([name, "--help"], 0) for name in COMMANDS}
    work = {
        "info": (["info", model], 0),
        "inspect": (["inspect", str(data)], 0),
        "predict": (["predict", "-i", str(data / "images"), "-m", model, "-o", masks, "--statistics"], 0),
        "evaluate": (["evaluate", str(data / "labels"), masks], 0),
        "explain": (["explain", str(data), "-m", model, "-o", str(root / "explained")], 0),
        "export": (["export", "-m", model, "-o", str(root / "exported"), "--format", "torch"], 0),
        "nothing": ([], 2),
        "bad usage": (["predict", "--nonsense"], 2),
        "missing data": (["inspect", missing], 2),
        "missing model": (["info", missing], 2),
    }
    heavy = ("explain", "export")
    light = {name: job for name, job in work.items() if name not in heavy}
    return root, {"file": work, "pipe": helps | light, "closed": light}


@pytest.mark.integration
@pytest.mark.parametrize("how", ["file", "pipe", "closed"])
def test_every_command_works_with_output_of_any_kind(how, jobs):
    root, known = jobs[0], jobs[1][how]
    shutil.rmtree(root / "masks", ignore_errors=True)
    environment = os.environ | {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "20"}
    if how == "file":  # a home folder that nobody can write into
        (root / "home").touch()
        environment |= {"HOME": str(root / "home"), "MPLCONFIGDIR": str(root / "home" / "matplotlib")}
        environment |= {
            "XDG_CACHE_HOME": str(root / "home" / "cache"),
            "XDG_CONFIG_HOME": str(root / "home" / "config"),
        }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(root)],
        input=json.dumps([(arguments, how) for arguments, _ in known.values()]),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for (name, (_, expected)), (code, printed, errors) in zip(known.items(), json.loads(done.stdout), strict=True):
        assert (name, code) == (name, expected), errors
        assert "Traceback" not in errors + printed, name
        assert "Broken pipe" not in errors, name
        assert "atplotlib" not in errors, name
        assert how != "file" or printed or errors or name == "explain", name
    assert list(json.loads((root / "masks" / "statistics.json").read_text(encoding="utf-8"))["cases"]) == [NAME]
