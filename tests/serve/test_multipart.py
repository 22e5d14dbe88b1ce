"""Forms that stream in, from friends and others."""

import asyncio

import pytest

from attunet.errors import AttunetError, DataError
from attunet.serve import multipart
from attunet.serve.multipart import TooLargeError, read_form


def body(*parts, boundary=b"abc", end=True):
    pieces = [b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts]
    return b"".join(pieces) + (b"--" + boundary + b"--\r\n" if end else b"")


def file(content, name=b"scan.nii.gz", field=b"file"):
    return b'Content-Disposition: form-data; name="' + field + b'"; filename="' + name + b'"', content


def field(name, content):
    return b'Content-Disposition: form-data; name="' + name + b'"', content


def read(content, folder, most=10**7, step=7):
    async def pieces():
        for start in range(0, len(content), step):
            yield content[start : start + step]

    return asyncio.run(read_form(pieces(), folder, most))


@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_files_go_to_the_disk_under_names_of_ours(tmp_path, step):
    content = body(file(b"one\r\n--ab", b"../../etc/passwd"), field(b"params", b'{"a": 1}'), file(b"", b"empty"))
    form = read(content, tmp_path, step=step)
    assert form.fields == {"params": '{"a": 1}'}
    assert [(upload.name, upload.size) for upload in form.named("file")] == [("../../etc/passwd", 9), ("empty", 0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    assert (tmp_path / "0").read_bytes() == b"one\r\n--ab"


def test_the_boundary_is_that_of_the_body(tmp_path):
    """A client of MONAI Label sends the header of an earlier request."""
    form = read(body(file(b"x"), boundary=b"----------lImIt_of_THE_fIle_eW_$"), tmp_path)
    assert form.named("file")[0].size == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b'{"json": true}', b"--" + b"a" * 5000, body(file(b"x"), end=False), b"--abc\r\nnothing\r\n\r\n"],
)
def test_what_is_no_form_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="form"):
        read(content, tmp_path)


def test_sizes_are_counted_while_they_come(tmp_path):
    with pytest.raises(TooLargeError, match="more than 100 bytes"):
        read(body(file(b"x" * 1000)), tmp_path, most=100)
    assert (tmp_path / "0").stat().st_size < 100
    for hostile in (
        body(field(b"params", b"x" * (multipart.LARGEST_FIELD + 1))),
        body(*(field(b"%d" % number, b"x" * 2**20) for number in range(6))),
    ):
        with pytest.raises(TooLargeError):
            read(hostile, tmp_path, step=2**16)


def test_a_header_without_end_is_refused(tmp_path):
    with pytest.raises(AttunetError):
        read(body((b"X-Long: " + b"x" * 10_000, b"")), tmp_path)


def test_the_number_of_files_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(multipart, "MOST_FILES", 3)
    with pytest.raises(TooLargeError, match="more than 3 files"):
        read(body(*(file(b"x") for _ in range(4))), tmp_path)
