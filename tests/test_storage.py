"""Files at URLs: listing, fetching and publishing, faults of the network, and what messages show."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from attunet import storage
from attunet.errors import ConfigError, EngineError, FormatError, NetworkError, RefusedError
from attunet.storage import RemoteFile, Store, fetch, is_url, list_files, local_path, name_of_url, shown_url

SECRET = "https://host/a.nii.gz?X-Amz-Signature=5ecret&sig=x/y"


@pytest.fixture
def bucket():
    """A fresh prefix of the storage in memory."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    return files


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(storage, "PAUSES", (0.0, 0.0, 0.0))


@contextmanager
def server(answer, certificate=None):
    """A server on this machine whose answers `answer(handler, number)` gives; its address and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer(self, len(asked))

        do_HEAD = do_GET  # noqa: N815  (the library's name)

        def log_message(self, *_words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        if certificate is not None:
            secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            secured.load_cert_chain(certificate)
            running.socket = secured.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http{'s' if certificate else ''}://localhost:{running.server_port}", asked
        finally:
            running.shutdown()
            thread.join()


def send(handler, status=200, body=b"", length=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(body)


def test_urls_are_told_from_paths_and_shown_without_secrets():
    assert [is_url(text) for text in ("s3://b/x", "memory://x", "/data/x", "C:\\x", "a//b")] == [
        True,
        True,
        *[False] * 3,
    ]
    assert shown_url(SECRET) == "https://host/a.nii.gz"
    assert shown_url("sftp://me:word@host/a#1.nii") == "sftp://host/a#1.nii"
    assert name_of_url(SECRET) == "a.nii.gz"
    assert name_of_url("https://host/a%20b.nii") == "a b.nii"
    assert name_of_url("s3://bucket/folder/scan%20#1.nii") == "scan%20#1.nii"
    assert str(local_path("file:///data/a%20b.nii")) == "/data/a b.nii"
    assert local_path("s3://bucket/a.nii") is None


def test_files_are_listed_fetched_and_published_once(bucket, tmp_path):
    store = Store("memory://out/run/")
    assert store.existing == frozenset()
    file = tmp_path / "a.txt"
    file.write_text("first")
    assert store.publish(file, "deep/a.txt")
    file.write_text("second")
    assert not store.publish(file, "deep/a.txt")
    assert list_files("memory://out/run") == {"deep/a.txt": 5}
    fetch(RemoteFile(url=store.path_of("deep/a.txt")), tmp_path / "copy" / "a.txt")
    assert (tmp_path / "copy" / "a.txt").read_text() == "first"
    assert store.publish(file, "deep/a.txt", replace=True)
    assert Store("memory://out/run").existing == {"deep/a.txt"}
    fetch(RemoteFile(url="memory://out/run", folder=True), tmp_path / "whole")
    assert (tmp_path / "whole" / "deep" / "a.txt").read_text() == "second"
    assert list_files("memory://out/run/deep/a.txt") == {"": 6}


def test_of_many_that_publish_the_same_one_wins(bucket, tmp_path):
    store = Store("memory://out")
    files = [tmp_path / f"{number}.txt" for number in range(8)]
    for file in files:
        file.write_text(file.stem)
    won = []
    threads = [threading.Thread(target=lambda file=file: won.append(store.publish(file, "x"))) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_store_is_tried_before_work_is_done(bucket, monkeypatch):
    store = Store("memory://out")
    store.check()
    assert store.existing == frozenset()

    def absent(*_words, **_how):
        raise FileNotFoundError

    monkeypatch.setattr(type(bucket), "pipe_file", absent)
    with pytest.raises(ConfigError, match="nothing can be written to memory://out"):
        store.check()


def test_storages_of_files_write_beside_and_rename(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "CONDITIONAL", ())
    store = Store("memory://out")
    (tmp_path / "a").write_text("1")
    assert store.publish(tmp_path / "a", "a")
    assert not store.publish(tmp_path / "a", "a")
    assert list_files("memory://out") == {"a": 1}


def test_what_is_not_there_is_a_format_error_and_leaves_nothing(bucket, tmp_path):
    with pytest.raises(FormatError, match="there is no file at memory://none/a"):
        fetch(RemoteFile(url="memory://none/a"), tmp_path / "a")
    with pytest.raises(FormatError, match="there is no file"):
        list_files("memory://none")
    assert not (tmp_path / "a").exists()


def test_a_fault_is_asked_again_and_a_refusal_is_not(tmp_path):
    def flaky(handler, asked):
        send(handler, 200, b"image") if asked > 2 else send(handler, 503)

    with server(flaky) as (address, asked):
        fetch(RemoteFile(url=f"{address}/a"), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == b"image"
        assert len(asked) == 3
    with server(lambda handler, _asked: send(handler, 403)) as (address, asked):
        with pytest.raises(RefusedError, match="HTTP status 403"):
            fetch(RemoteFile(url=f"{address}/a"), tmp_path / "b")
        assert len(asked) == 1
    with server(lambda handler, _asked: send(handler, 500)) as (address, asked):
        with pytest.raises(NetworkError, match="4 tries: HTTP status 500"):
            fetch(RemoteFile(url=f"{address}/a?sig=5ecret"), tmp_path / "b")
        assert len(asked) == 4


def test_a_download_that_is_cut_off_is_no_image(tmp_path):
    with server(lambda handler, _asked: send(handler, 200, b"half", length=8)) as (address, asked):
        with pytest.raises(NetworkError) as caught:
            fetch(RemoteFile(url=f"{address}/a?sig=5ecret"), tmp_path / "a")
        assert len(asked) == 4
    assert "5ecret" not in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_https_needs_a_certificate_that_this_machine_trusts(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    for name in ("ours", "another"):
        files = ("-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.crt")
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
    whole = tmp_path / "ours.pem"
    whole.write_text((tmp_path / "ours.crt").read_text() + (tmp_path / "ours.key").read_text())
    code = """
import sys
from pathlib import Path
from attunet import storage
storage.PAUSES = ()
storage.fetch(storage.RemoteFile(url=sys.argv[1]), Path(sys.argv[2]))
"""
    with server(lambda handler, _asked: send(handler, 200, b"image"), whole) as (address, _asked):
        told = {}
        for name in ("ours", "another"):
            environment = {**os.environ, "SSL_CERT_FILE": str(tmp_path / f"{name}.crt")}
            words = [sys.executable, "-c", code, f"{address}/a?sig=5ecret", str(tmp_path / name / "a")]
            told[name] = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (tmp_path / "ours" / "a").read_bytes() == b"image", told["ours"].stderr
    assert "NetworkError" in told["another"].stderr
    assert not (tmp_path / "another" / "a").exists()


def test_a_server_that_is_not_there_is_a_network_error(tmp_path):
    with server(lambda handler, _asked: send(handler)) as (address, _asked):
        pass
    with pytest.raises(NetworkError, match="could not be reached") as caught:
        fetch(RemoteFile(url=f"{address}/a?sig=5ecret"), tmp_path / "a")
    assert "5ecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("nosuch://x/a", ConfigError, "of no storage that is known"),
        ("sftp://me:5ecret@host/a", ConfigError, "holds a name and a password"),
        ("s3://me:5ecret@host/a", ConfigError, "holds a name and a password"),
        ("https://host/results", ConfigError, "https storage is only read"),
    ],
)
def test_what_cannot_be_opened_is_one_error_without_secrets(url, kind, said):
    with pytest.raises(kind, match=said) as caught:
        Store(url)
    assert "5ecret" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(storage, "find_spec", lambda _name: None)
    with pytest.raises(EngineError, match="needs the package fsspec"):
        list_files("memory://x")
