"""The viewer's files, and its PACS, through the server."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from attunet.errors import ConfigError
from attunet.serve.problems import answer_problems
from attunet.serve.settings import ServeSettings
from attunet.serve.viewer import viewer_router


class Pacs(BaseHTTPRequestHandler):
    def do_GET(self):
        content = f"{self.path} {self.headers.get('Accept')} {self.headers.get('Cookie')}".encode()
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Set-Cookie", "of=pacs")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def pacs():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pacs)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/dicom-web/"
    server.shutdown()
    server.server_close()
    thread.join()


def client_of(**settings):
    app = FastAPI()
    answer_problems(app)
    app.include_router(viewer_router(ServeSettings(models={}, data="data", **settings)))
    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.fixture
def ohif(tmp_path):
    folder = tmp_path / "ohif"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("the viewer")
    (folder / "assets" / "a.js").write_text("a script")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def test_a_page_of_the_viewer_is_found_at_every_address(ohif):
    with client_of(viewer=ohif) as client:
        for path in ("/ohif/", "/ohif/viewer?StudyInstanceUIDs=1.2", "/ohif/%2e%2e/secret.txt", "/ohif/nothing.js"):
            answer = client.get(path)
            assert answer.text == "the viewer"
            assert "MONAILABEL_SERVER_URL=http%3A%2F%2F127.0.0.1%3A8000;" in answer.headers["set-cookie"]
        assert client.get("/ohif/assets/a.js").text == "a script"
        assert "frame-ancestors 'none'" in client.get("/ohif/").headers["content-security-policy"]


def test_a_folder_without_a_viewer_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no index\.html"):
        client_of(viewer=tmp_path)


def test_the_pacs_is_read_through_the_server(pacs):
    with client_of(pacs=pacs) as client:
        client.cookies.set("attunet_session", "secret")
        answer = client.get(
            "/proxy/dicom/qido/studies?limit=2&PatientID=x*", headers={"Accept": "application/dicom+json"}
        )
        assert answer.text == "/dicom-web/studies?limit=2&PatientID=x* application/dicom+json None"
        assert answer.headers["content-type"] == "application/dicom+json"
        assert "set-cookie" not in answer.headers
        assert client.get("/proxy/dicom/wado/studies/missing").status_code == 404
        for path in ("/proxy/dicom/stow/studies", "/proxy/dicom/qido/..%2f..%2fpatients", "/proxy/dicom/qido//studies"):
            assert client.get(path).status_code == 404, path
        assert client.post("/proxy/dicom/qido/studies").status_code == 405


def test_a_pacs_that_is_away_is_told():
    with client_of(pacs="http://127.0.0.1:9/dicom-web") as client:
        answer = client.get("/proxy/dicom/qido/studies")
        assert answer.status_code == 502
        assert "does not answer" in answer.json()["detail"]
