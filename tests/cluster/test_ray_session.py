"""A connection to Ray, and what a cluster that was started here leaves: nothing. About ten seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from attunet.cluster.ray_session import RaySession
from attunet.errors import EngineError

STARTED = """
import os
from attunet.cluster.ray_session import RaySession
session = RaySession()
(node,) = session.nodes()
assert node.cpus >= 1 and node.memory > 2**28, node
folder = session.ray._private.worker.global_worker.node.get_session_dir_path()
assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
session.close()
assert "RAY_AUTH_TOKEN" not in os.environ
again = RaySession()
assert len(again.nodes()) == 1
again.close()
print(folder)
"""


@pytest.mark.integration
def test_a_cluster_of_this_machine_leaves_nothing(tmp_path):
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, "-c", STARTED], env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (folder,) = done.stdout.split()
    assert Path(folder).parent.name.startswith("attunet-ray-")
    assert not Path(folder).parent.exists()
    assert not list(tmp_path.iterdir())
    import psutil

    assert not [each for each in psutil.process_iter(["cmdline"]) if folder in " ".join(each.info["cmdline"] or ())]


def test_without_ray_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    before = dict(os.environ)
    with pytest.raises(EngineError, match="needs Ray") as refused:
        RaySession()
    assert "attunet[cluster]" in refused.value.hint
    assert dict(os.environ) == before


def test_folders_of_killed_programs_are_removed(monkeypatch):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    with tempfile.TemporaryDirectory(prefix=f"attunet-ray-{os.getpid()}-", dir="/tmp") as mine:
        left = tempfile.mkdtemp(prefix=f"attunet-ray-{gone.stdout.strip()}-", dir="/tmp")
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(EngineError):
            RaySession()
        assert Path(mine).exists()
        assert not Path(left).exists()
