"""The client of DICOMweb, against a small service in this process that can misbehave."""

import json
import logging
import re
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from dicom_peers import make_instance
from pydicom.uid import RLELossless

from attunet.dicom.network import WebAccess, WebAddress, WebClient, WebSource, fetch_source, parse_address, send_files
from attunet.errors import ConfigError, NetworkError, RefusedError

BOUNDARY = "part"


def encoded(dataset):
    with BytesIO() as stream:
        dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()


class Service(BaseHTTPRequestHandler):
    """QIDO-RS, WADO-RS and STOW-RS over the files of `server.files`."""

    def do_GET(self):
        server, path = self.server, urlsplit(self.path)
        server.asked.append((path.path, parse_qs(path.query), self.headers))
        if server.status:
            self.send_response(server.status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        if re.search(r"/studies/[^/]+/series/[^/]+$", path.path):
            parts = server.files if server.cut is None else server.files[: server.cut]
            body = b"".join(
                b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (BOUNDARY.encode(), part) for part in parts
            )
            kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
            self._answer(kind, body + b"--%s--" % BOUNDARY.encode())
            return
        tag, uid, counted = ("0020000D", "1.2", "00201208")
        if path.path.endswith("/series"):
            tag, uid, counted = "0020000E", "1.2.3", "00201209"
        entries = [
            {
                tag: {"vr": "UI", "Value": [uid]},
                "00080060": {"vr": "CS", "Value": ["CT"]},
                "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Geheim^Gisela"}]},
                counted: {"vr": "IS", "Value": [len(server.files)]},
            },
            {tag: {"vr": "UI", "Value": ["../../etc"]}},
        ]
        self._answer("application/dicom+json", server.body or json.dumps(entries).encode())

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append(content)
        self.send_response(self.server.status or 200)
        body = json.dumps(self.server.stored).encode()
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    def _answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def service():
    """A running service; its `status`, `cut`, `body` and `stored` say how it misbehaves."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.daemon_threads = True
    instances = [make_instance("1.2", "1.2.3", number) for number in (1, 2, 3)]
    instances[1].compress(RLELossless, generate_instance_uid=False)
    server.files, server.asked, server.posted = [encoded(one) for one in instances], [], []
    server.status, server.headers, server.cut, server.body, server.stored = 0, {}, None, b"", {}
    server.url = f"http://127.0.0.1:{server.server_port}/rs"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(service):
    return WebClient(WebAddress(service.url))


def test_studies_and_series_are_found_by_their_uids(client, service):
    assert client.studies({"ModalitiesInStudy": "CT", "StudyDate": "20260101-"}) == {"1.2": 3}
    assert service.asked[0][1]["StudyDate"] == ["20260101-"]
    (series,) = client.series("1.2")
    assert (series.study, series.uid, series.modality, series.instances) == ("1.2", "1.2.3", "CT", 3)
    assert len(service.asked) == 4  # a service that gives the same page for ever is asked twice


def test_a_series_is_fetched_as_it_is_stored(client, service):
    assert list(client.retrieve("1.2", "1.2.3")) == service.files
    accepted = next(headers["Accept"] for path, _query, headers in service.asked if path.endswith("1.2.3"))
    assert "transfer-syntax=*" in accepted.replace('"', "")


def test_a_series_that_ends_early_is_an_error(client, service):
    service.cut = 2
    with pytest.raises(NetworkError, match=r"gave 2 of the 3 instances of series 1\.2\.3"):
        list(client.retrieve("1.2", "1.2.3"))


def test_a_series_that_is_not_there(client):
    with pytest.raises(NetworkError, match=r"has no series 9\.9"):
        list(client.retrieve("1.2", "9.9"))


def test_an_instance_of_another_series_is_refused(client, service):
    service.files.append(encoded(make_instance("1.2", "7.7")))
    with pytest.raises(NetworkError, match=r"an instance of another series than 1\.2\.3"):
        list(client.retrieve("1.2", "1.2.3"))


def test_a_study_is_fetched_into_a_folder(service, tmp_path):
    source = WebSource(WebAddress(service.url), "1.2")
    assert fetch_source(source, tmp_path) == tmp_path / "1.2"
    fetched = sorted((tmp_path / "1.2" / "1.2.3").iterdir())
    assert [file.read_bytes() for file in fetched] == service.files
    fetch_source(WebSource(source.service, "1.2", "1.2.3"), tmp_path / "series")
    assert len(list((tmp_path / "series" / "1.2" / "1.2.3").iterdir())) == 3
    service.files.clear()
    service.body = b"[]"
    with pytest.raises(NetworkError, match=r"has no study 1\.2"):
        fetch_source(source, tmp_path / "none")


def test_objects_are_stored_in_one_piece(service, tmp_path):
    file = tmp_path / "object.dcm"
    file.write_bytes(service.files[1])
    (sent,) = send_files(parse_address(service.url), [file])
    assert sent.error is None
    assert service.files[1] in service.posted[0]


def test_an_object_that_was_not_stored_within_a_success(service, tmp_path):
    file = tmp_path / "object.dcm"
    file.write_bytes(service.files[0])
    for reason, kind in ((0xA900, RefusedError), (0xA700, NetworkError)):
        item = {"00081197": {"vr": "US", "Value": [reason]}}
        service.stored = {"00081198": {"vr": "SQ", "Value": [item]}}
        if kind is RefusedError:
            (sent,) = send_files(parse_address(service.url), [file])
            assert isinstance(sent.error, RefusedError)
            assert "0xA900" in str(sent.error)
        else:
            with pytest.raises(NetworkError, match="0xA700"):
                list(send_files(parse_address(service.url), [file]))


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, NetworkError, "does not allow"),
        (403, NetworkError, "does not allow"),
        (400, RefusedError, "with status 400"),
        (503, NetworkError, "with status 503"),
    ],
)
def test_a_status_is_an_error(status, kind, said, client, service):
    service.status = status
    with pytest.raises(NetworkError, match=said) as refused:
        client.studies({})
    assert type(refused.value) is kind
    assert refused.value.hint


def test_a_redirect_is_not_followed(client, service):
    service.status, service.headers = 302, {"Location": "http://127.0.0.1:1/elsewhere"}
    with pytest.raises(NetworkError, match="redirects elsewhere"):
        client.studies({})


def test_an_answer_that_is_not_dicomweb(client, service):
    service.body = b"<html>the login page</html>"
    with pytest.raises(NetworkError, match="not DICOMweb"):
        client.studies({})


def test_a_service_that_is_not_there(service):
    client = WebClient(WebAddress("http://127.0.0.1:1/rs"))
    with pytest.raises(NetworkError, match="cannot be reached"):
        client.studies({})


def credentials(folder, text, mode=0o600):
    file = folder / "credentials"
    file.write_text(text)
    file.chmod(mode)
    return WebAccess(credentials=file)


def test_a_password_comes_from_a_file_and_stays_secret(service, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    access = credentials(tmp_path, "machine 127.0.0.1 login me password hunter2\n")
    WebClient(WebAddress(service.url), access).studies({})
    assert service.asked[-1][2]["Authorization"] == "Basic bWU6aHVudGVyMg=="
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "credentials").rename(tmp_path / ".netrc")
    WebClient(WebAddress(service.url)).studies({})
    assert service.asked[-1][2]["Authorization"] == "Basic bWU6aHVudGVyMg=="
    assert "hunter2" not in caplog.text
    assert "bWU6aHVudGVyMg" not in caplog.text


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("machine 127.0.0.1 login me password hunter2\n", 0o644, "can be read by other users"),
        ("machine elsewhere login me password hunter2\n", 0o600, "has no entry for 127.0.0.1"),
        ("machine 127.0.0.1 pass hunter2\n", 0o600, "not in the format of netrc, line 1"),
    ],
)
def test_a_file_of_passwords_that_cannot_be_used(text, mode, said, service, tmp_path):
    with pytest.raises(ConfigError, match=said) as refused:
        WebClient(WebAddress(service.url), credentials(tmp_path, text, mode))
    assert "hunter2" not in str(refused.value)


def test_a_password_is_never_sent_unencrypted_to_another_machine(tmp_path):
    access = credentials(tmp_path, "machine pacs.example login me password hunter2\n")
    with pytest.raises(ConfigError, match="would be sent unencrypted"):
        WebClient(WebAddress("http://pacs.example/rs"), access)
    assert WebClient(WebAddress("https://pacs.example/rs"), access)


@pytest.fixture
def encrypted(service, tmp_path):
    """The same service behind https, with a certificate of its own authority; that certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    files = ["-keyout", key, "-out", certificate, "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", *words, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    service.socket = context.wrap_socket(service.socket, server_side=True)
    return certificate


def test_a_certificate_must_be_trusted(service, encrypted):
    address = parse_address(f"https://localhost:{service.server_port}/rs")
    with pytest.raises(NetworkError, match="has no certificate that is trusted"):
        WebClient(address).studies({})
    assert WebClient(address, WebAccess(authority=encrypted)).studies({}) == {"1.2": 3}


def test_every_instance_can_be_read(client):
    read = [pydicom.dcmread(BytesIO(content)) for content in client.retrieve("1.2", "1.2.3")]
    assert [one.InstanceNumber for one in read] == [1, 2, 3]
    assert [one.pixel_array.shape for one in read] == [(12, 16)] * 3
