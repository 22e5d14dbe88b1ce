"""Our own API, asked by its own client and by plain HTTP."""

import json
import re

import httpx
import nibabel
import numpy as np
import pytest

from attunet.errors import DataError, RefusedError
from attunet.inference.segmenter import Segmenter

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def done(running, scan_file):
    """A job that has ended with everything."""
    with running.client() as client:
        outputs = ["image", "probabilities", "attention", "preview"]
        job = client.submit(client.upload(scan_file).id, "organs", outputs)
        return client.wait(job.id, 60)


def test_a_mask_is_that_of_predict(client, done, scan_file, gated, tmp_path):
    mask = nibabel.load(client.download(done.id, "mask", tmp_path / "mask.nii.gz"))
    expected = Segmenter.load(gated).predict(scan_file, attention=True)
    assert np.array_equal(np.asanyarray(mask.dataobj), expected.segmentation.array[0])
    assert np.allclose(mask.affine, expected.segmentation.affine)
    image = nibabel.load(client.download(done.id, "image", tmp_path / "image.nii.gz"))
    assert np.allclose(image.get_fdata(), nibabel.load(scan_file).get_fdata())
    titles = {one.title: one.name for one in client.results(done.id)}
    for gate, volume in expected.attention.items():
        found = nibabel.load(client.download(done.id, titles[gate], tmp_path / "attention.nii.gz"))
        assert np.allclose(found.get_fdata(), volume.array[0], atol=1e-6)


def test_statistics_have_volumes_and_say_why_there_are_no_intervals(client, done):
    found = client.statistics(done.id)
    assert found.model == "organs"
    assert all(label.volume_ml >= 0 and label.interval_reason for label in found.labels.values())
    assert found.dice_reason
    assert found.manifest


def test_results_are_files_with_names_and_types(running, client, done):
    kinds = {one.name: one for one in client.results(done.id)}
    assert {"mask", "statistics", "image", "probabilities", "attention-0", "preview"} <= kinds.keys()
    answer = httpx.get(running.url + kinds["preview"].url)
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    assert len(answer.content) == kinds["preview"].bytes == int(answer.headers["content-length"])
    assert "mask.nii.gz" in httpx.get(running.url + kinds["mask"].url).headers["content-disposition"]


def test_events_end_with_the_job(running, done):
    events = re.findall(r"event: (\w+)\ndata: (.*)\n\n", httpx.get(f"{running.url}/api/v1/jobs/{done.id}/events").text)
    assert [kind for kind, _ in events] == ["end"]
    assert json.loads(events[0][1])["state"] == "done"


def test_progress_comes_while_a_job_runs(client, scan_file):
    job = client.submit(client.upload(scan_file).id, "organs", step_size=0.1)
    states = [event.state for event in client.events(job.id)]
    assert states[-1] == "done"
    assert client.job(job.id).ended is not None


def test_lists_have_the_latest_first(client, scan_file):
    first, second = (client.upload(scan_file).id for _ in range(2))
    assert [scan.id for scan in client.scans()[:2]] == [second, first]
    assert client.scans()[0].name == scan_file.name
    job = client.submit(second, "organs")
    assert client.jobs()[0].id == job.id
    client.wait(job.id, 60)
    client.remove_job(job.id)
    client.remove_scan(second)
    assert second not in [scan.id for scan in client.scans()]
    assert job.id not in [one.id for one in client.jobs()]


def test_models_are_described(client):
    (model,) = client.models()
    assert (model.name, model.channels, model.spatial_dims) == ("organs", ["channel 0"], 3)
    assert model.gates
    assert next(iter(model.labels)) == "background"
    assert model.warnings


def failing(client, *paths):
    """The job of files that cannot be predicted, when it has failed."""
    job = client.submit(client.upload(*paths).id, "organs")
    with pytest.raises(DataError):
        client.wait(job.id, 60)
    return client.job(job.id)


def test_what_cannot_be_read_fails_with_a_reason_in_the_words_of_people(running, client, tmp_path):
    (tmp_path / "my broken scan.nii.gz").write_bytes(b"\x1f\x8b nothing of NIfTI")
    job = failing(client, tmp_path / "my broken scan.nii.gz")
    assert "cannot read my broken scan.nii.gz as" in job.reason
    assert job.hint
    for part in (str(tmp_path), str(running.data), "scans/", job.scan, "my my"):
        assert part not in job.reason + job.hint
    assert "my broken scan" not in running.log()


def test_a_file_of_several_is_named_by_its_number(client, tmp_path, scan_file):
    (tmp_path / "a_0000.nii.gz").write_bytes(scan_file.read_bytes())
    (tmp_path / "a_0001.nii.gz").write_bytes(b"\x1f\x8b nothing of NIfTI")
    job = failing(client, tmp_path / "a_0000.nii.gz", tmp_path / "a_0001.nii.gz")
    for part in ("scans/", job.scan, "scan_000"):
        assert part not in job.reason + job.hint


def test_a_job_on_a_study_is_called_by_its_name(start_server, gated, scan_file, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "knee 7.nii.gz").write_bytes(scan_file.read_bytes())
    server = start_server({"organs": gated}, "--studies", tmp_path)
    with server.client() as client:
        (study,) = httpx.get(f"{server.url}/api/v1/studies").json()["studies"]
        job = client.wait(client.submit(study["key"], "organs").id, 60)
        assert job.name == study["key"]
        assert "knee 7" in job.name
        scan = client.upload(scan_file)
        job = client.wait(client.submit(scan.id, "organs").id, 60)
        assert job.name == scan.name
        assert httpx.delete(f"{server.url}/api/v1/scans/{scan.id}").status_code == 204
        assert client.job(job.id).name == ""
    server.stop()


def test_browsers_keep_the_files_of_the_page_and_nothing_of_patients(running, done):
    address = f"{running.url}/page/vendor/niivue.umd.js"
    first = httpx.get(address)
    assert first.headers["cache-control"] == "no-cache"  # kept, and used only when it is still the same
    again = httpx.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"
    assert httpx.get(address, headers={"If-None-Match": '"another"'}).content == first.content
    for path in ("/", "/page/missing.js", "/api/v1/jobs", f"/api/v1/jobs/{done.id}/results/mask", "/datastore/"):
        assert httpx.get(f"{running.url}{path}").headers["cache-control"] == "no-store", path


def test_errors_are_problems(running, client, scan_file):
    scan = client.upload(scan_file).id
    for method, path, content, status in (
        ("GET", "/api/v1/jobs/none", None, 404),
        ("GET", "/api/v1/models/none", None, 404),
        ("GET", "/nowhere", None, 404),
        ("PUT", "/api/v1/jobs", None, 405),
        ("POST", "/api/v1/jobs", {"scan": scan}, 422),
        ("POST", "/api/v1/jobs", {"scan": scan, "model": "none"}, 404),
        ("POST", "/api/v1/jobs", {"scan": "none", "model": "organs"}, 404),
        ("POST", "/api/v1/jobs", {"scan": scan, "model": "organs", "outputs": ["weights"]}, 422),
    ):
        answer = httpx.request(method, running.url + path, json=content)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert answer.json()["detail"]
    with pytest.raises(RefusedError, match="no such job"):
        client.job("none")


def test_the_description_has_every_route_and_its_errors(running):
    described = httpx.get(f"{running.url}/openapi.json").json()
    assert {"/api/v1/scans", "/api/v1/jobs/{job}/events", "/healthz"} <= described["paths"].keys()
    submit = described["paths"]["/api/v1/jobs"]["post"]["responses"]
    assert "application/problem+json" in submit["429"]["content"]
    assert httpx.get(f"{running.url}/healthz").json() == {"status": "ok"}
    assert 'attunet_jobs{state="done"}' in httpx.get(f"{running.url}/metrics").text


def test_a_log_names_no_patient(running, done):
    assert done.id
    assert "PATIENT" not in running.log()
    assert "POST /api/v1/scans" in running.log()


@pytest.mark.parametrize("step_size", [0, -1, 1e-9, 0.049, 1.01, "inf", None])
def test_a_step_out_of_range_is_refused(running, client, scan_file, step_size):
    ask = {"scan": client.upload(scan_file).id, "model": "organs", "step_size": step_size}
    assert httpx.post(f"{running.url}/api/v1/jobs", json=ask).status_code == 422
