"""The client, and servers that misbehave."""

import httpx
import pytest

from attunet.errors import BusyError, DataError, NetworkError, RefusedError
from attunet.serve import Client


def client_of(answer):
    return Client("http://server.example", transport=httpx.MockTransport(answer))


def problem(status, **more):
    return httpx.Response(
        status, json={"title": "x", "status": status, "detail": "it failed", "hint": "do this"} | more
    )


@pytest.mark.parametrize(
    ("answer", "kind", "match"),
    [
        (problem(404), RefusedError, "it failed; do this"),
        (problem(429), BusyError, "it failed"),
        (problem(500), NetworkError, "it failed"),
        (httpx.Response(502, text="<html>"), NetworkError, "status 502"),
        (httpx.Response(404, json=[]), RefusedError, "status 404"),
        (httpx.Response(200, text="<html>"), NetworkError, "no attunet server"),
        (httpx.Response(200, json={"models": [{"name": "x"}]}), NetworkError, "no attunet server"),
    ],
)
def test_what_a_server_refuses_is_an_error_of_ours(answer, kind, match):
    with client_of(lambda _request: answer) as client, pytest.raises(kind, match=match):
        client.models()


def test_a_server_that_is_away_is_told():
    with Client("http://127.0.0.1:9") as client, pytest.raises(NetworkError, match="does not answer"):
        client.jobs()


def test_a_download_that_breaks_off_leaves_no_file(tmp_path):
    def answer(_request):
        def pieces():
            yield b"half"
            raise httpx.ReadError("gone")

        return httpx.Response(200, content=pieces())

    with client_of(answer) as client, pytest.raises(NetworkError):
        client.download("job", "mask", tmp_path / "mask.nii.gz")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_files_is_refused(tmp_path):
    with client_of(lambda _request: problem(404)) as client, pytest.raises(DataError, match="holds no file"):
        client.upload(tmp_path)


def test_predict_is_upload_submit_wait_and_download(running, scan_file, tmp_path):
    with running.client() as client:
        found = client.predict(scan_file, model="organs", output=tmp_path / "mask.nii.gz")
    assert (tmp_path / "mask.nii.gz").stat().st_size
    assert found.labels
