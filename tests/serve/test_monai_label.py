"""MONAI Label's calls in the details that its clients depend on; tests/peers runs the clients themselves."""

import io
import json
import warnings

import httpx
import nibabel
import numpy as np
import pytest

from attunet.inference.segmenter import Segmenter

cgi = pytest.importorskip("cgi", reason="the clients read answers with it, before Python 3.13")


def parts(answer):
    """The fields and files of an answer, read as the clients read it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        form = cgi.FieldStorage(io.BytesIO(answer.content), headers=answer.headers, environ={"REQUEST_METHOD": "POST"})
    return form["params"], form["image"]


def infer(running, query, **files):
    return httpx.post(f"{running.url}/infer/organs{query}", files=files, timeout=60)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_infer_answers_with_params_and_a_file(running, scan_file, suffix):
    params = json.dumps({"result_extension": suffix})
    answer = infer(running, "", params=(None, params), file=("x.nii.gz", scan_file.read_bytes()))
    assert "transfer-encoding" not in answer.headers
    told, image = parts(answer)
    assert told.filename is None
    assert image.filename.endswith(suffix)
    assert json.loads(told.value)["label_names"]
    assert image.value.startswith(b"NRRD" if suffix == ".nrrd" else b"\x1f\x8b")


def test_a_session_is_an_upload_for_a_while(running, scan_file, gated, tmp_path):
    begun = httpx.put(f"{running.url}/session/", files={"files": ("x.nii.gz", scan_file.read_bytes())}).json()
    session = f"{running.url}/session/{begun['session_id']}"
    assert httpx.get(session).json() == begun["session_info"]
    _, image = parts(infer(running, f"?session_id={begun['session_id']}", params=(None, "{}")))
    (tmp_path / "mask.nii.gz").write_bytes(image.value)
    found = np.asanyarray(nibabel.load(tmp_path / "mask.nii.gz").dataobj)
    assert np.array_equal(found, Segmenter.load(gated).predict(scan_file).segmentation.array[0])
    assert httpx.delete(session).status_code == 200
    assert httpx.get(session).status_code == 404


@pytest.mark.parametrize(
    ("query", "params", "status"),
    [
        ("?image=none", "{}", 404),
        ("?image=none", "[]", 422),
        ("?image=none", "{", 422),
        ("?session_id=../../x", "{}", 404),
    ],
)
def test_what_cannot_be_inferred_is_a_problem(running, query, params, status):
    answer = infer(running, query, params=(None, params))
    assert answer.status_code == status
    assert answer.json()["hint"]


def test_an_unknown_format_is_refused(running, scan_file):
    params = json.dumps({"result_extension": "/../../x"})
    answer = infer(running, "", params=(None, params), file=("x.nii.gz", scan_file.read_bytes()))
    assert answer.status_code == 422
    assert ".nii.gz or .nrrd" in answer.json()["detail"]


def test_information_has_the_shape_that_clients_need(running):
    info = httpx.get(f"{running.url}/info/").json()
    assert not info.get("config")
    assert isinstance(info["labels"], list)
    (model,) = info["models"].values()
    assert model["type"] == "segmentation"
    assert "background" not in model["labels"]
    assert httpx.get(f"{running.url}/auth/").json() == {"enabled": False}
    assert httpx.get(f"{running.url}/train/?check_if_running=true").status_code == 404
    assert httpx.post(f"{running.url}/activelearning/other", json={}).status_code == 404
