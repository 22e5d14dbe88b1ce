"""The server against real clients of MONAI Label: its Python client, and the one within 3D Slicer's module."""

import json
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from attunet.inference.segmenter import Segmenter

pytestmark = pytest.mark.peers

PEERS = Path(__file__).parents[2] / "build" / "peers-monailabel"
CALLS = Path(__file__).parents[1] / "generators" / "monai_label_calls.py"
CLIENTS = {
    "python": "lib/python*/site-packages/monailabel/client/client.py",
    "slicer": "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py",
}
"""Where the package installs them, within its environment."""


@pytest.fixture(scope="module", params=CLIENTS)
def module(request):
    """The file of a client's module."""
    found = sorted(PEERS.glob(CLIENTS[request.param]))
    if not found:
        pytest.skip("monailabel is not installed: see tests/peers/install.sh")
    return found[0]


@pytest.fixture(params=[None, "a token of the server"], ids=["open", "token"])
def server(start_server, gated, request, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    words = ("--token", request.param) if request.param else ()
    server = start_server({"organs": gated}, "--studies", studies, *words)
    server.studies, server.password = studies, request.param
    yield server
    server.stop()


def test_every_call_of_the_client(module, server, scan_file, gated, tmp_path):
    """What comes back is the mask of predict, byte for byte the same file as the server has, and labels are kept."""
    expected = Segmenter.load(gated).predict(scan_file).segmentation
    label = tmp_path / "corrected.nii.gz"
    nibabel.save(nibabel.Nifti1Image(expected.array[0].astype(np.uint8), expected.affine), label)
    words = [module, server.url, "organs", scan_file, label, tmp_path, *([server.password] if server.password else [])]
    done = subprocess.run([PEERS / "bin/python", CALLS, *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + server.log()
    said = json.loads(done.stdout)
    assert said["auth"] is (server.password is not None)
    assert said.get("valid", True) is True
    assert said["info"]["models"]["organs"]["type"] == "segmentation"
    assert not said["info"].get("config")
    assert isinstance(said["info"]["labels"], list)
    assert said["added"] == {"image": "my image/1"}
    assert said["sample"]["id"] == "my image/1"
    for key in ("by_session", "by_id", "with_label"):
        path, params = said[key]
        assert np.array_equal(np.asanyarray(nibabel.load(path).dataobj), expected.array[0]), key
        assert params["label_names"] == said["info"]["models"]["organs"]["labels"]
    assert any("not used" in warning for warning in said["with_label"][1]["warnings"])
    path, _ = said["by_file"]
    assert path.endswith(".nrrd")
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).transpose()
    assert sorted(np.unique(read)) == sorted(np.unique(expected.array))
    assert said["gone"] == "MONAILabelClientException"
    assert set(said["datastore"]["objects"]["my image/1"]["labels"]) == {"draft", "final"}
    assert np.array_equal(np.asanyarray(nibabel.load(said["downloaded"]).dataobj), expected.array[0])
    assert not said["none_left"]["id"]
    assert said["after"] == {"total": 1, "completed": 1}
    assert said["training"] is False
    assert "no such model" in said["unknown_model"]
    files = {str(path.relative_to(server.studies)) for path in server.studies.rglob("*.nii.gz")}
    (image,) = (name for name in files if name.startswith("images/"))
    assert {image.replace("images/", "labels/"), image.replace("images/", ".label-versions/version-1/")} <= files


def test_a_truncated_answer_is_noticed_by_nobody_so_the_length_is_there(server, scan_file):
    """Both clients save what they got of a chunked answer, and report success."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    words = ["-H", f"Authorization: Bearer {server.password}"] if server.password else []
    address = f"{server.url}/infer/organs?output=image"
    command = [
        "curl",
        "-s",
        "-D",
        "-",
        "-o",
        "/dev/null",
        "-F",
        "params={}",
        "-F",
        f"file=@{scan_file}",
        *words,
        address,
    ]
    headers = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout.lower()
    assert "200 ok" in headers
    assert "content-length" in headers
    assert "transfer-encoding" not in headers
