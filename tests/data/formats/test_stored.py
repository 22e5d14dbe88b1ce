"""Values behind a header or in files beside it: every encoding, damage, lists of files, and files of others."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib

import numpy as np
import pytest

from attunet.data.formats.stored import ENCODINGS, StoredVoxels, files_outside, numbered_files, read_stored
from attunet.errors import FormatError

VALUES = np.random.default_rng(0).integers(-1000, 1000, (40, 30, 20)).astype("<i2")
BYTES = VALUES.tobytes(order="F")
STORE = {
    "raw": lambda content: content,
    "deflate": zlib.compress,
    "bzip2": bz2.compress,
    "text": lambda content: " ".join(map(str, np.frombuffer(content, "<i2"))).encode(),
}


def stored(path, encoding="raw", **more):
    return StoredVoxels(header=path, shape=VALUES.shape, dtype=VALUES.dtype, encoding=encoding, **more)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_is_read_behind_its_header(encoding, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"header\n\n" + STORE[encoding](BYTES))
    found = read_stored(stored(path, encoding, start=7, lines=1))
    np.testing.assert_array_equal(found, VALUES)
    path.write_bytes(b"header" + gzip.compress(b"ab" + BYTES))
    np.testing.assert_array_equal(read_stored(stored(path, "deflate", start=6, skip=2)), VALUES)
    path.write_bytes(b"any number of bytes" + BYTES)
    np.testing.assert_array_equal(read_stored(stored(path, start=-1)), VALUES)


@pytest.mark.parametrize("encoding", ["deflate", "bzip2"])
def test_one_flipped_bit_anywhere_is_an_error_or_changes_nothing(encoding, tmp_path):
    path, generator = tmp_path / "x", np.random.default_rng(1)
    for compress in {STORE[encoding], gzip.compress if encoding == "deflate" else STORE[encoding]}:
        whole = compress(BYTES)
        for _ in range(60):
            content = bytearray(whole)
            content[generator.integers(len(content))] ^= 1 << generator.integers(8)
            path.write_bytes(content)
            try:
                found = read_stored(stored(path, encoding))
            except Exception:  # whatever the decompressor raises becomes a FormatError in read_volume
                continue
            np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_values_are_an_error(encoding, share, tmp_path):
    content = STORE[encoding](BYTES)
    (tmp_path / "x").write_bytes(content[: int(share * len(content))])
    with pytest.raises((FormatError, EOFError)):
        read_stored(stored(tmp_path / "x", encoding))


def test_text_is_numbers_of_the_declared_type(tmp_path):
    for text in ("1 2 3", "1 2 3 4 5", "1 2 x 4", "1 2 3 400", "1 2 3 -1"):
        (tmp_path / "x").write_text(text)
        with pytest.raises((FormatError, ValueError, OverflowError)):
            read_stored(StoredVoxels(header=tmp_path / "x", shape=(2, 2), dtype=np.dtype("u1"), encoding="text"))
    (tmp_path / "x").write_text("1, 2\n3, 4")
    read = read_stored(StoredVoxels(header=tmp_path / "x", shape=(2, 2), dtype=np.dtype("u1"), encoding="text"))
    assert read.tolist() == [[1, 3], [2, 4]]


def test_a_file_per_slice(tmp_path):
    names = tuple(f"slice {k}.raw" for k in range(20))
    for k, name in enumerate(names):
        (tmp_path / name).write_bytes(zlib.compress(VALUES[..., k].tobytes(order="F")))
    np.testing.assert_array_equal(read_stored(stored(tmp_path / "x", "deflate", files=names)), VALUES)
    for wrong in (names[:7], (names[0],) * 20, names[:10]):
        with pytest.raises(FormatError):
            read_stored(stored(tmp_path / "x", "deflate", files=wrong))


def test_files_that_are_larger_than_their_part_are_not_cut(tmp_path):
    for k in range(2):
        (tmp_path / f"{k}").write_bytes(BYTES)
    with pytest.raises(FormatError, match="bytes more"):
        read_stored(stored(tmp_path / "x", files=("0", "1")))


def test_numbered_names():
    assert numbered_files("a_%03d.raw", range(9, 11), None) == ("a_009.raw", "a_010.raw")
    assert numbered_files("%d", range(1, 2), None) == ("1",)
    for pattern in ("a.raw", "%s", "%d%d", "%999999999d", "%-3d", "%n%d"):
        with pytest.raises(FormatError, match="conversion"):
            numbered_files(pattern, range(2), None)


@pytest.fixture
def outside(tmp_path):
    """A header's folder, and the names by which it could reach a file outside of it."""
    folder = tmp_path / "scans"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(BYTES)
    (folder / "link.raw").symlink_to(tmp_path / "secret")
    return folder, (str(tmp_path / "secret"), "../secret", "link.raw", "/proc/self/environ", "../scans/../secret")


def test_only_files_in_the_folder_of_the_header_are_read(outside):
    folder, names = outside
    for name in names:
        with pytest.raises(FormatError, match="outside its folder") as caught:
            read_stored(stored(folder / "x", files=(name,)))
        assert "--allow-outside" in caught.value.hint
    with files_outside(True):
        np.testing.assert_array_equal(read_stored(stored(folder / "x", files=("../secret",))), VALUES)


def test_a_header_and_its_data_may_both_be_links_into_another_folder(tmp_path):
    for folder in ("store", "set"):
        (tmp_path / folder).mkdir()
    (tmp_path / "store" / "x").touch()
    (tmp_path / "store" / "x.raw").write_bytes(BYTES)
    for name in ("x", "x.raw"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name)
    np.testing.assert_array_equal(read_stored(stored(tmp_path / "set" / "x", files=("x.raw",))), VALUES)


def test_data_files_that_are_missing_or_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "missing", "x" * 5000, "a\0b", "", "http://a.org/x.raw"):
        with pytest.raises(FormatError):
            read_stored(stored(tmp_path / "x", files=(name,)))
