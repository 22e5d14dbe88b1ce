"""JPEG 2000: values as stored, whichever the depth; alpha only where the file defines it."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from attunet.data.formats import check_header, read_label, read_volume
from attunet.errors import FormatError

imagecodecs = pytest.importorskip("imagecodecs")


def save(path: Path, array: np.ndarray, bits: int, **how: object) -> Path:
    codec = "JP2" if path.suffix in (".jp2", ".jpx") else "J2K"
    path.write_bytes(imagecodecs.jpeg2k_encode(array, level=0, bitspersample=bits, codecformat=codec, **how))
    return path


def random(bits: int, channels: int, *, signed: bool = False) -> np.ndarray:
    shape = (14, 17, channels) if channels > 1 else (14, 17)
    values = np.random.default_rng(bits).integers(0, 2**bits, shape) - (2 ** (bits - 1) if signed else 0)
    return values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


@pytest.mark.parametrize("suffix", [".jp2", ".j2k", ".jpx"])
@pytest.mark.parametrize(
    ("bits", "channels", "signed"),
    [
        (1, 1, False),
        (4, 1, False),
        (8, 1, False),
        (12, 1, False),
        (16, 1, False),
        (8, 1, True),
        (12, 1, True),
        (16, 1, True),
        (5, 3, False),
        (8, 3, False),
        (8, 3, True),
        (12, 3, False),
        (16, 3, False),
        (8, 2, False),
    ],
)
def test_values_are_as_stored(bits, channels, signed, suffix, tmp_path):
    array = random(bits, channels, signed=signed)
    image = read_volume(save(tmp_path / f"x{suffix}", array, bits, reversible=True))
    assert image.array.dtype == array.dtype
    np.testing.assert_array_equal(image.array[..., 0], np.moveaxis(np.atleast_3d(array), -1, 0))


def defined_alpha(path: Path, channel: int) -> Path:
    """Add a channel definition box to the header of a JP2 file."""
    data = path.read_bytes()
    at = data.index(b"jp2h") - 4
    (length,) = struct.unpack(">I", data[at : at + 4])
    body = struct.pack(">HHHH", 1, channel, 1, 0)
    box = struct.pack(">I", 8 + len(body)) + b"cdef" + body
    path.write_bytes(
        data[:at] + struct.pack(">I", length + len(box)) + data[at + 4 : at + length] + box + data[at + length :]
    )
    return path


def test_a_channel_is_alpha_only_where_the_file_defines_it(tmp_path):
    array = random(8, 4)
    path = save(tmp_path / "x.jp2", array, 8, reversible=True)
    np.testing.assert_array_equal(read_volume(path).array[..., 0], np.moveaxis(array, -1, 0))
    defined_alpha(path, 3)
    np.testing.assert_array_equal(read_volume(path).array[..., 0], np.moveaxis(array[..., :3], -1, 0))
    assert [told.kind for told in check_header(path)] == ["transparency"]


def test_a_mask_compressed_with_loss_is_reported(tmp_path):
    mask = (random(8, 1) > 100).astype(np.uint8)
    whole = save(tmp_path / "whole.jp2", mask, 8, reversible=True)
    lossy = save(tmp_path / "lossy.jp2", mask, 8, reversible=False)
    np.testing.assert_array_equal(read_label(whole).array[0, ..., 0], mask)
    assert check_header(whole, label=True) == ()
    (told,) = check_header(lossy, label=True)
    assert told.kind == "lossy label"
    assert told.severity == "problem"


def test_colours_of_more_than_eight_bits_need_a_codec(tmp_path, monkeypatch):
    path = save(tmp_path / "x.jp2", random(12, 3), 12, reversible=True)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(FormatError, match="would cut to 8") as caught:
        read_volume(path)
    assert "attunet[codecs]" in caught.value.hint


@pytest.mark.parametrize("suffix", [".jp2", ".j2k"])
def test_a_damaged_header_is_refused(suffix, tmp_path):
    path = save(tmp_path / f"x{suffix}", random(8, 1), 8, reversible=True)
    whole = path.read_bytes()
    at = whole.index(b"\xff\x4f\xff\x51") + 8
    path.write_bytes(whole[:at] + struct.pack(">II", 2**31, 2**31) + whole[at + 8 :])
    with pytest.raises(FormatError):
        read_volume(path)
    for size in (at + 2, *range(at + 40, len(whole), 20), len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read_volume(path)
