"""JPEG 2000 files: what they declare, and their values as stored, which Pillow shifts to 8 or 16 bits.

Source: ITU-T T.800 (2019), annexes A and I. Several components of more than 8 bits need imagecodecs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from attunet.data.formats.limits import AGAIN, check_size
from attunet.data.volume import Array
from attunet.documents import open_regular
from attunet.errors import FormatError

__all__ = ["Jpeg2000Header", "read_jpeg2000", "read_jpeg2000_header"]

CODESTREAM = b"\xff\x4f\xff\x51"  # start of codestream, then its size marker
END_OF_CODESTREAM = b"\xff\xd9"
PADDING = 16  # zeros that may follow it, for example from DICOM
CODING_STYLE = 0xFF52
REVERSIBLE = 1  # wavelet transformation 5-3
FOLDERS = (b"jp2h",)  # boxes that contain boxes
OPACITY = (1, 2)  # types of a channel definition
MAX_BOXES = 4096


@dataclass(frozen=True, kw_only=True)
class Jpeg2000Header:
    """What a JPEG 2000 file declares.

    Args:
        width, height: size, pixels.
        depths: bits of each component.
        signed: whether each component is signed.
        alpha: numbers of the components that the file defines as opacity.
        palette: whether the component is an index into colours.
        reversible: whether its wavelets can keep every value; a codestream without them is lossy.
    """

    width: int
    height: int
    depths: tuple[int, ...]
    signed: tuple[bool, ...]
    alpha: frozenset[int]
    palette: bool
    reversible: bool


def read_jpeg2000_header(path: Path) -> Jpeg2000Header:
    """Read what a JPEG 2000 file (JP2, JPX or a bare codestream) declares.

    Raises: FormatError when it has no codestream, or the size is more than this machine can hold.
    """
    alpha: set[int] = set()
    palette = False
    with open_regular(path) as stream:
        for kind, body in _boxes(stream, path):
            palette = palette or kind == b"pclr"
            if kind == b"cdef":
                definitions = struct.iter_unpack(">HHH", body[2 : 2 + len(body[2:]) // 6 * 6])
                alpha.update(channel for channel, meaning, _ in definitions if meaning in OPACITY)
            if kind == b"jp2c":
                return _sized(body, path, frozenset(alpha), palette)
    raise FormatError(f"{path} contains no JPEG 2000 codestream", hint=AGAIN)


def read_jpeg2000(path: Path, header: Jpeg2000Header, image: Image.Image) -> Array:
    """Read the components of an image as stored; indexes where there is a palette.

    Args:
        path: the file.
        header: what it declares.
        image: the image, which Pillow has opened.
    Returns: (C, H, W).
    Raises: FormatError when several components have more than 8 bits, and imagecodecs is not installed.
    """
    highest = max(header.depths)
    plain = len(set(zip(header.depths, header.signed, strict=True))) == 1
    if not plain or highest > (16 if len(header.depths) == 1 else 8):
        return _deep(path)
    pixels = np.asarray(image)
    held, bits = np.int32, 8 * pixels.dtype.itemsize
    values = pixels.astype(held) >> (bits - highest) if not header.palette else pixels
    if header.signed[0]:
        values = values.astype(held) - (1 << (highest - 1))
    kind = np.dtype(f"{'i' if header.signed[0] else 'u'}{1 if highest <= 8 else 2}")
    return np.atleast_3d(values.astype(kind)).transpose(2, 0, 1)


def _deep(path: Path) -> Array:
    try:
        import imagecodecs
    except ImportError as error:
        raise FormatError(
            f"{path} has several components of more than 8 bits, which Pillow would cut to 8",
            hint="pip install 'attunet[codecs]', or save the image as 16-bit PNG or TIFF",
        ) from error
    with open_regular(path) as stream:
        decoded = np.asarray(imagecodecs.jpeg2k_decode(stream.read()))
    return np.atleast_3d(decoded).transpose(2, 0, 1)


def _is_reversible(codestream: bytes) -> bool:
    """Whether the first coding style of a codestream's main header is the 5-3 wavelet transformation."""
    position = 2
    while position + 4 <= len(codestream):
        marker, length = struct.unpack(">HH", codestream[position : position + 4])
        if marker == CODING_STYLE:
            return codestream[position + 13 : position + 14] == bytes([REVERSIBLE])
        position += 2 + max(2, length)
    return False


def _boxes(stream: BinaryIO, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes of a JP2 file; of a codestream, only its beginning."""
    size, end = path.stat().st_size, 0
    if stream.read(4) == CODESTREAM:
        yield b"jp2c", _codestream(stream, 0, size, path)
        return
    for _ in range(MAX_BOXES):
        stream.seek(end)
        start, header = stream.read(16), 8
        if len(start) < 8:
            return
        length, kind = int.from_bytes(start[:4], "big"), start[4:8]
        if length == 1:
            length, header = int.from_bytes(start[8:16], "big"), 16
        stop = size if length == 0 else end + length
        if stop > size or stop < end + header:
            raise FormatError(f"{path} is truncated: a box ends after the file", hint=AGAIN)
        stream.seek(end + header)
        if kind == b"jp2c":
            yield kind, _codestream(stream, end + header, stop, path)
        elif kind not in FOLDERS:
            yield kind, stream.read(min(stop - stream.tell(), 2**16))
        end = end + header if kind in FOLDERS else stop


def _codestream(stream: BinaryIO, start: int, stop: int, path: Path) -> bytes:
    """The beginning of a codestream, which must end with its marker: decoders fill what is missing."""
    stream.seek(max(start, stop - PADDING))
    if not stream.read(stop - stream.tell()).rstrip(b"\0").endswith(END_OF_CODESTREAM):
        raise FormatError(f"{path} is truncated: its codestream has no end", hint=AGAIN)
    stream.seek(start)
    return stream.read(min(stop - start, 2**16))


def _sized(codestream: bytes, path: Path, alpha: frozenset[int], palette: bool) -> Jpeg2000Header:
    """The header from the size marker of a codestream."""
    if codestream[:4] != CODESTREAM or len(codestream) < 42:
        raise FormatError(f"{path} contains no JPEG 2000 codestream", hint=AGAIN)
    right, bottom, left, top = struct.unpack(">IIII", codestream[8:24])
    (count,) = struct.unpack(">H", codestream[40:42])
    components = codestream[42 : 42 + 3 * count : 3]
    header = Jpeg2000Header(
        width=right - left,
        height=bottom - top,
        depths=tuple((component & 0x7F) + 1 for component in components),
        signed=tuple(bool(component & 0x80) for component in components),
        alpha=alpha,
        palette=palette,
        reversible=_is_reversible(codestream),
    )
    if len(components) != count:
        raise FormatError(f"{path} is truncated: it declares {count} components", hint=AGAIN)
    wide = max(header.depths, default=8) > 8
    size = path.stat().st_size
    check_size(path, (header.height, header.width, count), 2 if wide else 1, stored=size, ratio=float("inf"))
    return header
