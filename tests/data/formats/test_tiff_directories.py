"""Directories of TIFF files: cycles, counts and offsets that lie, in both byte orders and sizes."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile

from attunet.data.formats import read_volume
from attunet.data.formats.tiff_directories import check_directories
from attunet.errors import FormatError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, SAMPLES, ROWS, COUNTS = (
    256,
    257,
    258,
    259,
    262,
    273,
    277,
    278,
    279,
)


def plain(path: Path, *, data: bytes = bytes(63), following: int = 0, **changed: int) -> Path:
    """A TIFF file of 7 x 9 pixels, written byte by byte; `changed` gives tags other values."""
    values = {
        WIDTH: changed.get("width", 9),
        HEIGHT: changed.get("height", 7),
        BITS: 8,
        COMPRESSION: changed.get("compression", 1),
        PHOTOMETRIC: 1,
        OFFSETS: changed.get("offset", 8),
        SAMPLES: changed.get("samples", 1),
        ROWS: changed.get("rows", 7),
        COUNTS: changed.get("stored", len(data)),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    start = 8 + len(data)
    directory = struct.pack("<H", len(values)) + entries + struct.pack("<I", following)
    path.write_bytes(b"II*\0" + struct.pack("<I", start) + data + directory)
    return path


def test_a_plain_file_is_read(tmp_path):
    data = np.random.default_rng(0).bytes(63)
    image = read_volume(plain(tmp_path / "x.tif", data=data))
    np.testing.assert_array_equal(image.array[0, ..., 0], np.frombuffer(data, np.uint8).reshape(7, 9))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"following": 71}, "cycle"),
        ({"following": 2**31}, "beyond its end"),
        ({"offset": 2**30}, "truncated"),
        ({"width": 2**31, "height": 2**31, "rows": 2**31}, "truncated, or its header is damaged"),
        ({"width": 0}, "no voxels"),
        ({"height": 70, "rows": 70}, "truncated, or its header is damaged"),
        ({"rows": 1}, "segments of pixels"),
        ({"samples": 60000}, "truncated, or its header is damaged"),
        ({"width": 2**31, "height": 2**31, "rows": 2**31, "compression": 50000}, "limit for compressed files"),
    ],
)
def test_what_a_directory_declares_must_be_in_the_file(changed, message, tmp_path):
    with pytest.raises(FormatError, match=message) as caught:
        read_volume(plain(tmp_path / "x.tif", **changed))
    assert caught.value.hint


def test_a_ring_of_many_directories_ends(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((300, 8, 8), np.uint8), photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        first, last = file.pages[0].offset, file.pages[-1].offset
    (count,) = struct.unpack_from("<H", data, last)
    struct.pack_into("<I", data, last + 2 + 12 * count, first)
    (tmp_path / "x.tif").write_bytes(data)
    started = time.perf_counter()
    with pytest.raises(FormatError, match="cycle"):
        read_volume(tmp_path / "x.tif")
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_every_layout_is_understood(tile, byteorder, bigtiff, tmp_path):
    array = np.random.default_rng(0).integers(0, 200, (3, 50, 70)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "x.tif",
        array,
        photometric="minisblack",
        tile=tile,
        byteorder=byteorder,
        bigtiff=bigtiff,
        rowsperstrip=7,
    )
    assert len(check_directories(tmp_path / "x.tif")) == 3
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array, np.moveaxis(array, 0, -1)[None])


def test_any_changed_byte_is_read_or_refused(tmp_path):
    path = tmp_path / "x.tif"
    array = np.random.default_rng(0).integers(0, 9, (4, 20, 30)).astype(np.uint8)
    tifffile.imwrite(path, array, photometric="minisblack", compression="zlib", metadata=None)
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for _ in range(300):
        data = bytearray(whole)
        for at in random.integers(4, len(data), 2):
            data[at] = random.integers(256)
        path.write_bytes(data)
        with suppress(FormatError):
            read_volume(path)


def test_text_and_pictures_with_the_suffix_are_refused(tmp_path):
    for content in (b"no picture at all", b"\x89PNG\r\n\x1a\n" + bytes(20), b"II*\0", b"II*\0" + bytes(4)):
        (tmp_path / "x.tif").write_bytes(content)
        with pytest.raises(FormatError):
            read_volume(tmp_path / "x.tif")
