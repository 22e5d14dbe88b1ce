"""MONAI Label's calls in the details that its clients depend on; tests/peers runs the clients themselves."""

import io
import json
import re
import warnings

import dicom_series
import httpx
import nibabel
import numpy as np
import pytest

from attunet.data.cases import Case
from attunet.errors import DataError
from attunet.inference.segmenter import Segmenter

pytestmark = pytest.mark.integration

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


@pytest.fixture(scope="module")
def several(start_server, gated, make_model, tmp_path_factory):
    """A server whose studies are images of two files and of one with two channels, and its models of one and of two."""
    studies, pair = tmp_path_factory.mktemp("studies"), make_model(3, in_channels=2)
    for number in range(2):
        image = np.random.default_rng(number).normal(size=(24, 20, 16)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), studies / f"a_000{number}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.stack([image, image], -1), np.eye(4)), studies / "both_0000.nii.gz")
    server = start_server({"organs": gated, "pair": pair}, "--studies", studies)
    server.studies, server.pair = studies, pair
    return server


@pytest.fixture(scope="module")
def archive(start_server, gated, tmp_path_factory):
    """A server whose studies are two series of DICOM, one with a gap."""
    studies, uids = tmp_path_factory.mktemp("studies"), {}
    for name, missing in (("whole", None), ("gap", 3)):
        slices = dicom_series.make_series(dicom_series.sample((24, 20, 16)))
        uids[name] = slices[0].SeriesInstanceUID
        dicom_series.save_series([one for k, one in enumerate(slices) if k != missing], studies / name)
    server = start_server({"organs": gated}, "--studies", studies)
    server.studies, server.uids = studies, uids
    return server


def image_of(server, key):
    return httpx.get(f"{server.url}/datastore/image", params={"image": key}, timeout=120)


def test_an_image_of_one_file_comes_as_it_is_and_others_as_nifti(several, archive, tmp_path):
    answer = image_of(several, "a_0000")
    assert answer.content == (several.studies / "a_0000.nii.gz").read_bytes()
    assert 'filename="a_0000.nii.gz"' in answer.headers["content-disposition"]
    for server, key, shape in ((archive, archive.uids["whole"], (24, 20, 16)), (several, "a", (24, 20, 16, 2))):
        answer = image_of(server, key)
        assert f'filename="{key}.nii.gz"' in answer.headers["content-disposition"]
        (tmp_path / "image.nii.gz").write_bytes(answer.content)
        assert nibabel.load(tmp_path / "image.nii.gz").shape == shape
        assert httpx.post(f"{server.url}/activelearning/first", json={}).json()["name"].endswith(".nii.gz")


def test_a_conversion_is_made_once_until_its_files_change(several, tmp_path):
    def content():
        (tmp_path / "image.nii.gz").write_bytes(image_of(several, "a").content)
        return np.asanyarray(nibabel.load(tmp_path / "image.nii.gz").dataobj)

    first, results = content(), several.data / "results"
    before = set(results.iterdir())
    assert np.array_equal(content(), first)
    assert set(results.iterdir()) == before
    changed = nibabel.load(several.studies / "a_0000.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(changed.get_fdata(dtype=np.float32) + 1, np.eye(4)), several.studies / "a_0000.nii.gz"
    )
    assert np.allclose(content()[..., 0], first[..., 0] + 1)
    assert len(set(results.iterdir())) == len(before)
    with several.client() as client:
        assert "" not in [job.model for job in client.jobs()]


def test_a_series_that_is_no_volume_is_one_clear_problem(archive):
    answer = image_of(archive, archive.uids["gap"])
    assert answer.status_code == 422
    told = answer.json()
    assert archive.uids["gap"] in told["detail"]
    assert str(archive.studies) not in answer.text
    assert not re.search(r"--|check the path", told["hint"])
    with archive.client() as client, pytest.raises(DataError) as failed:
        client.wait(client.submit(archive.uids["gap"], "organs").id, 120)
    assert failed.value.hint == told["hint"]
    assert image_of(archive, "../a").status_code == 404


def test_a_model_of_several_channels_gets_all_files_of_a_study(several, tmp_path):
    case = Case("a", tuple(several.studies / f"a_000{number}.nii.gz" for number in range(2)), None)
    with several.client() as client:
        job = client.wait(client.submit("a", "pair").id, 120)
        mask = nibabel.load(client.download(job.id, "mask", tmp_path / "mask.nii.gz"))
        expected = Segmenter.load(several.pair).predict(case).segmentation.array[0]
        assert np.array_equal(np.asanyarray(mask.dataobj), expected)
        assert client.wait(client.submit("both_0000", "pair").id, 120).state == "done"


def test_a_study_of_other_channels_or_another_series_is_refused(several, archive):
    def submitted(server, **job):
        answer = httpx.post(f"{server.url}/api/v1/jobs", json=job)
        return answer.status_code, answer.json().get("detail", "")

    status, detail = submitted(several, scan="a", model="organs")
    assert (status, "has 2 files, expected those of 1 channels" in detail) == (422, True)
    assert submitted(archive, scan=archive.uids["whole"], model="organs", series=archive.uids["gap"])[0] == 422
    assert submitted(archive, scan=archive.uids["whole"], model="organs", series=archive.uids["whole"])[0] == 202
    with several.client() as client, pytest.raises(DataError, match="1 channel"):
        client.wait(client.submit("a_0001", "pair").id, 120)
