"""Usage reports of other packages are off, whichever is imported first."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from attunet.telemetry import OPT_OUT

WATCHED = """
import importlib, json, os, socket, sys
asked = []

def refuse(*words, **named):
    asked.append(str(words[:1]))
    raise OSError("no network in this test")

socket.getaddrinfo = socket.gethostbyname = socket.create_connection = socket.socket.connect = refuse
for name in {first}:
    importlib.import_module(name)
del asked[:]
import attunet
for name in {then}:
    importlib.import_module(name)
{code}
print(json.dumps([asked, sorted(os.environ[key] for key in {keys})]))
"""


def watched(tmp_path, then=(), first=(), code=""):
    """What is asked of the network after `import attunet`, and what is in the home folder at the end."""
    text = WATCHED.format(first=list(first), then=list(then), code=code, keys=list(OPT_OUT))
    dropped = {"CI", "XDG_CACHE_HOME", *OPT_OUT}
    environment = {key: value for key, value in os.environ.items() if key not in dropped} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    asked, options = json.loads(done.stdout.splitlines()[-1])
    assert options == sorted(OPT_OUT.values())
    return asked, [path.name for path in tmp_path.rglob("*") if path.is_file()]


CONVERT = """
import openvino, numpy
from openvino import opset13 as ops
image = ops.parameter([1], numpy.float32)
openvino.Core().compile_model(openvino.Model([ops.relu(image)], [image]), "CPU")
from openvino.tools.ovc import telemetry_utils
telemetry_utils.init_ovc_telemetry().send_event("ovc", "a", "b")
"""


def test_openvino_sends_nothing_and_keeps_no_identifier(tmp_path):
    assert watched(tmp_path, then=["openvino"], code=CONVERT) == ([], [])


def test_openvino_that_was_imported_before_sends_nothing_more(tmp_path):
    asked, _ = watched(tmp_path, first=["openvino"], code=CONVERT)
    assert asked == []


def test_onnxruntime_and_nncf_send_nothing_and_keep_no_identifier(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("nncf")
    assert watched(tmp_path, then=["onnxruntime", "nncf"], code="nncf = sys.modules['nncf']") == ([], [])
