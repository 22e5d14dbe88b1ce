"""PNG files of every depth and colour type: values as stored, whole files only."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from attunet.data.formats import check_header, read_label, read_volume
from attunet.errors import FormatError

CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def paeth(left: int, up: int, corner: int) -> int:
    return min((left, up, corner), key=lambda value: abs(left + up - corner - value))


def filtered(rows: list[bytes], width: int) -> bytes:
    """Rows under the five filters in turn, straight from the specification; `width` is the bytes of a pixel."""
    result, above = b"", bytes(len(rows[0]))
    for number, row in enumerate(rows):
        kind = number % 5
        left = bytes(width) + row[:-width]
        corner = bytes(width) + above[:-width]
        expected = [
            lambda a, b, c: 0,
            lambda a, b, c: a,
            lambda a, b, c: b,
            lambda a, b, c: (a + b) // 2,
            paeth,
        ][kind]
        line = bytes((x - expected(a, b, c)) % 256 for x, a, b, c in zip(row, left, above, corner, strict=True))
        result, above = result + bytes([kind]) + line, row
    return result


def packed(row: np.ndarray, depth: int) -> bytes:
    """A row (W, C) of samples of `depth` bits."""
    if depth == 16:
        return row.astype(">u2").tobytes()
    if depth == 8:
        return row.astype(np.uint8).tobytes()
    bits = "".join(f"{value:0{depth}b}" for value in row.ravel())
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def save(path: Path, array: np.ndarray, depth: int, colour: int, *extra: bytes, interlaced: bool = False) -> Path:
    """Write (H, W, C) as PNG from raw bytes."""
    height, width = array.shape[:2]
    pixel = max(1, CHANNELS.get(colour, 1) * depth // 8)
    passes = [array[y::down, x::right] for y, x, down, right in ADAM7] if interlaced else [array]
    data = b"".join(filtered([packed(row, depth) for row in part], pixel) for part in passes if part.size)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def random(depth: int, colour: int, shape: tuple[int, int] = (13, 11)) -> np.ndarray:
    return np.random.default_rng(depth + colour).integers(0, 2**depth, (*shape, CHANNELS[colour]))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("depth", "colour"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (16, 4), (8, 6), (16, 6)]
)
def test_values_of_every_depth_are_as_stored(depth, colour, interlaced, tmp_path):
    array = random(depth, colour)
    image = read_volume(save(tmp_path / "x.png", array, depth, colour, interlaced=interlaced))
    shown = array[..., :-1] if colour in (4, 6) else array
    assert image.array.dtype == (np.uint16 if depth == 16 else np.uint8)
    np.testing.assert_array_equal(image.array[..., 0], np.moveaxis(shown, -1, 0))


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_masks_of_sixteen_bits_keep_their_labels(colour, tmp_path):
    labels = np.random.default_rng(0).choice([0, 1, 300, 65535], (9, 7))
    array = np.stack([labels] * CHANNELS[colour], -1)
    if colour in (4, 6):
        array[..., -1] = 65535
    np.testing.assert_array_equal(read_label(save(tmp_path / "x.png", array, 16, colour)).array[0, ..., 0], labels)


def test_transparency_is_left_out_and_said_only_where_it_varies(tmp_path):
    opaque, varying = random(16, 6), random(16, 6)
    opaque[..., 3] = 65535
    assert check_header(save(tmp_path / "opaque.png", opaque, 16, 6)) == ()
    (told,) = check_header(save(tmp_path / "varying.png", varying, 16, 6))
    assert told.kind == "transparency"
    assert f"{varying[..., 3].min()} to {varying[..., 3].max()}" in told.message
    keyed = save(tmp_path / "keyed.png", random(8, 0), 8, 0, chunk(b"tRNS", struct.pack(">H", random(8, 0)[0, 0, 0])))
    assert [told.kind for told in check_header(keyed)] == ["transparency"]
    np.testing.assert_array_equal(read_volume(keyed).array[0, ..., 0], random(8, 0)[..., 0])


@pytest.mark.parametrize("colour", [0, 2])
def test_a_changed_or_missing_byte_is_refused(colour, tmp_path):
    path = save(tmp_path / "x.png", random(16, colour, (40, 40)), 16, colour)
    whole = path.read_bytes()
    for at in range(9, len(whole), 97):
        path.write_bytes(whole[:at])
        with pytest.raises(FormatError, match=r"truncated|begin with"):
            read_volume(path)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(FormatError):
            read_volume(path)


def test_a_size_that_the_file_cannot_hold_is_refused_before_memory_is_taken(tmp_path):
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(FormatError, match=r"truncated|exceeds limit"):
        read_volume(tmp_path / "x.png")
    short = zlib.compress(np.random.default_rng(0).bytes(1000))
    header = struct.pack(">IIBBBBB", 100, 100, 16, 2, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", short) + chunk(b"IEND", b"")
    )
    with pytest.raises(FormatError, match="truncated: it has 1000 of 60100 bytes"):
        read_volume(tmp_path / "x.png")


def test_an_animation_is_refused(tmp_path):
    frames = chunk(b"acTL", struct.pack(">II", 3, 0))
    path = save(tmp_path / "x.png", random(8, 0), 8, 0, frames)
    with pytest.raises(FormatError, match="contains 3 pictures") as caught:
        read_volume(path)
    assert "TIFF" in caught.value.hint
