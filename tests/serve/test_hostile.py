"""A hundred hostile requests: none is answered with a traceback or a fault of the server, none writes elsewhere."""

import base64
import gzip
import io
import json
import socket
import struct
import zipfile
from contextlib import suppress
from urllib.parse import urlsplit

import numpy as np
import pytest

from attunet.errors import AttunetError, RefusedError

BOUNDARY = "----hostile"
ELSEWHERE = [
    "../../../escaped.nii.gz",
    "/tmp/escaped.nii.gz",
    "..\\..\\escaped.nii.gz",
    "C:\\escaped.nii.gz",
    "\\\\host\\x.nii",
]
TRAVERSALS = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd",
]
NAMES = [
    ".htaccess",
    "con.nii.gz",
    "a\0b.nii.gz",
    "x" * 5000 + ".nii.gz",
    "\u202egz.iin.nii.gz",
    "<script>.nii.gz",
    "$(id).nii",
]
HEADERS = [
    "Host: attacker.example",
    "Host: 127.0.0.1.attacker.example",
    "Host: ",
    "Host: localhost@attacker.example",
    "Origin: https://attacker.example",
    "Origin: null",
    "Sec-Fetch-Site: cross-site",
    "Cookie: attunet_session=" + "x" * 8000,
    "Cookie: ;;;===\x80",
    "Authorization: Bearer " + "A" * 8000,
    "Authorization: Basic " + base64.b64encode(b"a:b").decode(),
    "Content-Length: -1",
    "Content-Length: 99999999999999999999",
    "Content-Length: abc",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Expect: 100-continue",
    "X-Forwarded-For: 127.0.0.1, ' OR 1=1 --",
    "Range: bytes=0-,5-,-1",
    "Accept: " + "a/b;" * 3000,
]
LINES = [
    "GET / HTTP/9.9",
    "GET /" + "a" * 20000 + " HTTP/1.1",
    "BREW /coffee HTTP/1.1",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "GET http://attacker.example/ HTTP/1.1",
    "CONNECT attacker.example:443 HTTP/1.1",
    "PUT /page/x.js HTTP/1.1",
    "DELETE /api/v1/models/organs HTTP/1.1",
    "TRACE / HTTP/1.1",
    "GET /api/v1/jobs?limit=-1 HTTP/1.1",
    "GET /api/v1/jobs?limit=1e99 HTTP/1.1",
    "GET /api/v1/jobs/'%20OR%201=1 HTTP/1.1",
    "GET /api/v1/jobs/%00 HTTP/1.1",
    "GET /api/v1/jobs/%ff%fe/events HTTP/1.1",
    "GET /datastore/label?label=../../x&tag=../../y HTTP/1.1",
    "GET /datastore/image?image=/etc/passwd HTTP/1.1",
    "GET /page/%2e%2e/%2e%2e/api.py HTTP/1.1",
    "GET /session/..%2f..%2fqueue.sqlite HTTP/1.1",
]
BODIES = [
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"[" * 100_000,
    b'{"scan": {"$ne": null}, "model": "organs"}',
    b'{"scan": "x", "model": "../../../etc"}',
    b'{"scan": "x", "model": "organs", "outputs": ["mask", "../../x"]}',
    b'{"scan": "' + b"x" * 10_000 + b'", "model": "organs"}',
    b'{"scan": "x", "model": "organs", "step_size": NaN}',
    b'{"scan": "x", "model": "organs", "step_size": 1e-300}',
    b'{"scan": "x", "model": "organs", "unknown": 1}',
    b"\xff\xfe\x00",
    b"x" * (2**20 + 1),
]
FORMS = [
    b"",
    b"--",
    b"no form at all",
    b"--" + b"b" * 100_000,
    b"--x\r\n\r\n--x\r\n\r\n--x--",
    b"--x\r\nContent-Disposition: form-data\r\n\r\nhello\r\n--x--\r\n",
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\nhalf',
    b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''%ff%fe\r\n\r\ny\r\n--x--\r\n",
    b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\nx\r\n--x--\r\n",
    b"\xff" * 1000,
]


def bomb_nifti(shape=(30000, 30000, 3000)):
    """A header that announces terabytes, and little behind it."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 16, 32)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return bytes(head)


def zipped(*members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


DICOM = b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff" + b"1.2" * 10
FILES = {
    "a header of terabytes": ("bomb.nii", bomb_nifti()),
    "a header of terabytes, compressed": ("bomb.nii.gz", gzip.compress(bomb_nifti())),
    "a gigabyte of zeros in a megabyte": (
        "zeros.nii.gz",
        gzip.compress(bomb_nifti((1000, 1000, 500)) + bytes(2**28), 9),
    ),
    "a negative size": ("negative.nii", bomb_nifti((-5, 5, 5))),
    "an archive that leads out": ("a.zip", zipped(("../../escaped.dcm", DICOM), ("/tmp/escaped.dcm", DICOM))),
    "an archive of an archive": ("a.zip", zipped(("b.zip", zipped(("c.dcm", DICOM))))),
    "an archive of zeros": ("a.zip", zipped(("a.dcm", DICOM + bytes(2**28)))),
    "an archive that broke off": ("a.zip", zipped(("a.dcm", DICOM * 100))[:60]),
    "an archive of nothing": ("a.zip", b"PK\x05\x06" + bytes(18)),
    "DICOM of noise": ("a.dcm", DICOM + np.random.default_rng(0).bytes(5000)),
    "NRRD that names another file": (
        "a.nrrd",
        b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: /etc/passwd\n\n",
    ),
    "MetaImage that names another file": (
        "a.mha",
        b"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = /etc/passwd\n",
    ),
    "a picture of a billion pixels": (
        "a.png",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">2I5B", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0),
    ),
    "a TIFF that points at itself": ("a.tif", b"II*\0\x08\0\0\0\x01\0\x00\x01\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"),
    "an object of pickle": (
        "a.npy",
        b"\x93NUMPY\x01\0F\0{'descr':'|O','fortran_order':False,'shape':(1,)}"
        + b" " * 20
        + b"\ncos\nsystem\n(S'id'\ntR.",
    ),
}


def form(name, content, field="file"):
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="'.encode()
    return head + name.encode("utf-8", "surrogatepass") + b'"\r\n\r\n' + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def request(line, *headers, body=b"", host="127.0.0.1"):
    named = [] if any(header.lower().startswith("host:") for header in headers) else [f"Host: {host}"]
    length = (
        [] if not body or any("Content-Length" in header for header in headers) else [f"Content-Length: {len(body)}"]
    )
    text = "\r\n".join((line, *named, *headers, *length, "Connection: close", "", ""))
    return text.encode("utf-8", "surrogateescape") + body


def posted(path, body, *headers):
    return request(f"POST {path} HTTP/1.1", *headers, body=body)


LEADING_OUT = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{{"result_extension": "/../../x"}}\r\n'
).encode() + form("x.nii.gz", bomb_nifti())

REQUESTS = {
    **{f"line {line[:40]!r}": request(line) for line in LINES},
    **{f"header {header[:40]!r}": request("POST /api/v1/jobs HTTP/1.1", header, body=b"{}") for header in HEADERS},
    **{f"job {body[:40]!r}": posted("/api/v1/jobs", body, "Content-Type: application/json") for body in BODIES},
    **{
        f"form {body[:40]!r}": posted("/api/v1/scans", body, f"Content-Type: multipart/form-data; boundary={BOUNDARY}")
        for body in FORMS
    },
    **{f"path {path}": request(f"GET /api/v1/jobs/{path} HTTP/1.1") for path in TRAVERSALS},
    **{f"result {path}": request(f"GET /api/v1/jobs/x/results/{path} HTTP/1.1") for path in TRAVERSALS},
    **{f"name {name[:40]!r}": posted("/api/v1/scans", form(name, b"x")) for name in (*ELSEWHERE, *NAMES)},
    **{
        f"image {name[:40]!r}": request(
            f"PUT /datastore/?image={name.encode().hex()}%2f..%2f.. HTTP/1.1", body=form(name, b"x")
        )
        for name in ELSEWHERE
    },
    "a label of no image": request(
        "PUT /datastore/label?image=../../x&tag=../../y HTTP/1.1", body=form("a.nii.gz", b"x", "label")
    ),
    "params that are no object": posted(
        "/infer/organs?image=x",
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="params"\r\n\r\n[1]\r\n--{BOUNDARY}--\r\n'.encode(),
    ),
    "an image to infer that is none": posted("/infer/organs?image=../../x", form("../../x.nii.gz", b"\x1f\x8bnothing")),
    "a suffix that leads out": posted("/infer/organs", LEADING_OUT),
}


def send(url, content, *, wait=20.0):
    """The status of an answer; 0 when the connection was closed without one."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=wait) as peer:
        try:
            peer.sendall(content)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has answered already
        answer = b""
        try:
            while piece := peer.recv(2**16):
                answer += piece
        except OSError:
            pass
    assert b"Traceback" not in answer
    assert b"site-packages" not in answer
    first = answer.split(b"\r\n", 1)[0].split(b" ")
    return int(first[1]) if len(first) > 1 and first[1].isdigit() else 0


@pytest.fixture(scope="module")
def attacked(start_server, gated, tmp_path_factory):
    """A server whose home, working folder and temporary folder are watched."""
    place = tmp_path_factory.mktemp("place")
    server = start_server({"organs": gated}, environment={"HOME": str(place), "TMPDIR": str(place)}, place=place)
    server.place = place
    yield server
    server.stop()


def outside(server):
    """Every file around the data folder of a server."""
    around = {*server.place.rglob("*"), *server.folder.rglob("*")}
    return {str(path) for path in around if server.data not in path.parents}


def test_there_are_a_hundred():
    assert len(REQUESTS) + len(FILES) >= 100


def test_hostile_requests_are_refused(attacked):
    before = outside(attacked)
    faults = {name: status for name, content in REQUESTS.items() if (status := send(attacked.url, content)) >= 500}
    assert not faults
    assert outside(attacked) == before
    assert "Traceback" not in attacked.log()
    assert attacked.process.poll() is None


def test_hostile_files_cost_at_most_a_job(attacked, scan_file, tmp_path):
    before = outside(attacked)
    with attacked.client() as client:
        jobs = {}
        for name, (filename, content) in FILES.items():
            (tmp_path / filename).write_bytes(content)
            with suppress(RefusedError):
                jobs[name] = client.submit(client.upload(tmp_path / filename).id, "organs").id
        for name, job in jobs.items():
            with pytest.raises(AttunetError):
                client.wait(job, 120)
            ended = client.job(job)
            assert ended.state == "failed", name
            assert ended.reason, name
            assert "/" + str(attacked.data).strip("/") not in json.dumps(ended.model_dump()), name
        good = client.submit(client.upload(scan_file).id, "organs")
        assert client.wait(good.id, 60).state == "done"
    assert outside(attacked) == before
    assert "Traceback" not in attacked.log()
