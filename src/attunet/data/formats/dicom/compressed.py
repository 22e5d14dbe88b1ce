"""Compressed images: decoded by SimpleITK, each in a file of its own that has nothing but the image.

What SimpleITK would apply to the original (the rescale of some kinds of objects, and not of others) is thereby never
applied, and of many frames only one is decoded. The size that JPEG and JPEG 2000 declare themselves is compared with
the header before the decoder takes memory for it.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from attunet.data.formats.dicom.slices import PixelLayout, StoredSlice
from attunet.data.formats.limits import AGAIN
from attunet.data.volume import Array
from attunet.errors import FormatError

__all__ = ["decompress", "quiet_decoders"]

SECONDARY_CAPTURE, INSTANCE = b"1.2.840.10008.5.1.4.1.1.7", b"2.25.1"
"""A kind of object to which SimpleITK applies no rescale, and a UID that says nothing."""
UNDEFINED = 0xFFFFFFFF
JPEG = b"\xff\xd8"
JPEG2000 = b"\xff\x4f\xff\x51"
FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Markers of JPEG and JPEG-LS that begin a frame and give its size."""
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment behind them."""
START_OF_SCAN, END = 0xDA, 0xD9
CHATTER = (b"Unsupported JPEG data precision", b"Tile part length size inconsistent")
STANDARD_ERROR = 2

_LOCK = Lock()
_STATE: dict[str, int] = {"users": 0, "kept": -1, "file": -1}


class _Declared(NamedTuple):
    """What a compressed image declares: its size, its samples for each pixel, and bits of a sample."""

    rows: int
    columns: int
    samples: int
    bits: int


def decompress(encoded: bytes, one: StoredSlice, scratch: Path) -> Array:
    """The stored values of a compressed image.

    Args:
        encoded: the compressed image.
        one: what its header says.
        scratch: a file that may be overwritten.
    Returns: (rows, columns), or (rows, columns, samples).
    Raises: FormatError when it cannot be decoded, or declares another size than the header.
    """
    _check_codestream(encoded, one)
    layout = one.layout if one.layout.samples > 1 else replace(one.layout, photometric="MONOCHROME2")
    return _decoded(encoded, layout, one.name, scratch)


def _decoded(encoded: bytes, layout: PixelLayout, name: str, scratch: Path) -> Array:
    import SimpleITK as sitk  # noqa: N813

    scratch.unlink(missing_ok=True)  # ext4 writes out a file that is truncated
    scratch.write_bytes(_single(layout, encoded))
    try:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")  # rather than asking every reader whether it knows the format
        reader.SetFileName(str(scratch))
        decoded: Array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        raise FormatError(f"the pixels of {name} cannot be decoded", hint=AGAIN) from None
    shape = (layout.rows, layout.columns) if layout.samples == 1 else (layout.rows, layout.columns, layout.samples)
    if decoded.shape not in (shape, (1, *shape)):
        raise FormatError(f"{name} has another size than its header says", hint=AGAIN)
    return decoded.reshape(shape)


def _single(layout: PixelLayout, encoded: bytes) -> bytes:
    """A file of nothing but one compressed image (PS3.10, explicit little endian; PS3.5 A.4)."""
    about_file = b"".join(
        (
            _element(0x0002, 0x0001, b"OB", b"\0\1"),
            _element(0x0002, 0x0002, b"UI", SECONDARY_CAPTURE),
            _element(0x0002, 0x0003, b"UI", INSTANCE),
            _element(0x0002, 0x0010, b"UI", layout.syntax.encode()),
        )
    )
    sizes = {0x0002: layout.samples, 0x0010: layout.rows, 0x0011: layout.columns}
    sizes |= {0x0006: int(layout.planar)} if layout.samples > 1 else {}
    bits = {0x0100: layout.allocated, 0x0101: layout.stored, 0x0102: layout.high, 0x0103: int(layout.signed)}
    image = {element: (b"US", struct.pack("<H", value)) for element, value in (sizes | bits).items()}
    image[0x0004] = b"CS", layout.photometric.encode()
    fragment = encoded + bytes(len(encoded) % 2)
    return b"".join(
        (
            bytes(128) + b"DICM",
            _element(0x0002, 0x0000, b"UL", struct.pack("<L", len(about_file))),
            about_file,
            _element(0x0008, 0x0016, b"UI", SECONDARY_CAPTURE),
            _element(0x0008, 0x0018, b"UI", INSTANCE),
            *(_element(0x0028, element, *image[element]) for element in sorted(image)),
            struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, UNDEFINED),
            struct.pack("<HHL", 0xFFFE, 0xE000, 0),
            struct.pack("<HHL", 0xFFFE, 0xE000, len(fragment)),
            fragment,
            struct.pack("<HHL", 0xFFFE, 0xE0DD, 0),
        )
    )


def _element(group: int, element: int, representation: bytes, value: bytes) -> bytes:
    value += (b" " if representation == b"CS" else b"\0") * (len(value) % 2)
    if representation == b"OB":
        return struct.pack("<HH2sHL", group, element, representation, 0, len(value)) + value
    return struct.pack("<HH2sH", group, element, representation, len(value)) + value


def _check_codestream(encoded: bytes, one: StoredSlice) -> None:
    """Compare the size that a compressed image declares with that of the file's header.

    Raises: FormatError when they differ, or the image is damaged before it says its size.
    """
    if encoded.startswith(JPEG):
        declared = _of_jpeg(encoded)
    elif encoded.startswith(JPEG2000):
        declared = _of_jpeg2000(encoded)
    else:
        return  # RLE declares no size
    if declared is None:
        raise FormatError(f"the compressed pixels of {one.name} are damaged", hint=AGAIN)
    layout = one.layout
    if declared[:3] != (layout.rows, layout.columns, layout.samples) or declared.bits > layout.allocated:
        raise FormatError(
            f"{one.name} is compressed as {declared.columns} x {declared.rows} pixels of {declared.samples} samples of "
            f"{declared.bits} bits, but its header says {layout.columns} x {layout.rows} of {layout.samples} of "
            f"{layout.stored}",
            hint="export it again",
        )


def _of_jpeg(encoded: bytes) -> _Declared | None:
    at = 2
    while at + 4 <= len(encoded):
        if encoded[at] != 0xFF:
            return None
        marker = encoded[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker in ALONE:
            at += 2
        elif marker in FRAMES and at + 10 <= len(encoded):
            bits, rows, columns, samples = struct.unpack(">BHHB", encoded[at + 4 : at + 10])
            return _Declared(rows, columns, samples, bits)
        elif marker in (START_OF_SCAN, END):
            return None
        else:
            at += 2 + max(2, int(struct.unpack(">H", encoded[at + 2 : at + 4])[0]))
    return None


def _of_jpeg2000(encoded: bytes) -> _Declared | None:
    if len(encoded) < 43:
        return None
    right, bottom, left, top = struct.unpack(">4L", encoded[8:24])
    samples, bits = struct.unpack(">HB", encoded[40:43])
    return _Declared(bottom - top, right - left, samples, (bits & 0x7F) + 1)


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """A block within which decoders write nothing about the images that they decode to standard error.

    What else is written there, by any thread, appears when the last such block ends.
    """
    with _LOCK:
        if _STATE["users"] == 0:
            _begin()
        _STATE["users"] += 1
    try:
        yield
    finally:
        with _LOCK:
            _STATE["users"] -= 1
            if _STATE["users"] == 0:
                _end()


def _begin() -> None:
    try:
        kept = os.dup(STANDARD_ERROR)
    except OSError:  # a program without standard error
        return
    with tempfile.TemporaryFile() as file:
        _STATE["kept"], _STATE["file"] = kept, os.dup(file.fileno())
    os.dup2(_STATE["file"], STANDARD_ERROR)


def _end() -> None:
    kept, file = _STATE["kept"], _STATE["file"]
    if kept < 0:
        return
    os.dup2(kept, STANDARD_ERROR)
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, "rb") as written:
        rest = b"".join(line for line in written if not line.startswith(CHATTER))
    if rest:
        os.write(kept, rest)
    os.close(kept)
    _STATE["kept"], _STATE["file"] = -1, -1
