"""PNG files: what they declare, whether they are whole, and colours of 16 bits, which Pillow would cut to 8.

Source: Portable Network Graphics Specification (Third Edition), W3C 2025.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from attunet.data.formats.limits import AGAIN, MAX_DEFLATE_RATIO, check_size
from attunet.data.volume import Array
from attunet.documents import open_regular
from attunet.errors import FormatError

__all__ = ["PngHeader", "read_deep_png", "read_png_header"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
DEPTHS = (1, 2, 4, 8, 16)
ONE_PASS = ((0, 0, 1, 1),)  # first row and column, step of rows and columns
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


@dataclass(frozen=True, kw_only=True)
class PngHeader:
    """What a PNG file declares.

    Args:
        width, height: size, pixels.
        depth: bits of a sample: 1, 2, 4, 8 or 16.
        colour: colour type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
        interlaced: whether the rows are stored in seven passes.
        frames: number of pictures, more than one in an animated PNG.
    """

    width: int
    height: int
    depth: int
    colour: int
    interlaced: int
    frames: int

    @property
    def samples(self) -> int:
        """Samples of a pixel, alpha included."""
        return SAMPLES[self.colour]


def read_png_header(path: Path) -> PngHeader:
    """Read what a PNG file declares, and compare the checksum of every critical chunk, to the last.

    Raises: FormatError when a chunk is missing, cut off or damaged, or the size is more than the file can hold.
    """
    stored, frames, header = 0, 1, b""
    with open_regular(path) as stream:
        for kind, body in _chunks(stream, path):
            stored += len(body) if kind == b"IDAT" else 0
            header = body if kind == b"IHDR" else header
            frames = int.from_bytes(body[:4], "big") if kind == b"acTL" else frames
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if colour not in SAMPLES or depth not in DEPTHS:
        raise FormatError(f"{path} declares the colour type {colour} with {depth} bits, unknown in PNG", hint=AGAIN)
    declared = PngHeader(width=width, height=height, depth=depth, colour=colour, interlaced=interlaced, frames=frames)
    packed = MAX_DEFLATE_RATIO * max(1, 8 // depth)
    check_size(path, (height, width, declared.samples), max(1, depth // 8), stored=stored, ratio=packed)
    return declared


def read_deep_png(path: Path, header: PngHeader) -> Array:
    """Read the pixels (H, W, samples) of a PNG file of 16 bits, uint16.

    Raises: FormatError when pixels are missing, zlib.error when they are damaged.
    """
    with open_regular(path) as stream:
        data = b"".join(body for kind, body in _chunks(stream, path) if kind == b"IDAT")
    passes = [
        (first, (len(range(first[0], header.height, first[2])), len(range(first[1], header.width, first[3]))))
        for first in (ADAM7 if header.interlaced else ONE_PASS)
    ]
    passes = [(first, shape) for first, shape in passes if min(shape) > 0]
    width = 2 * header.samples  # bytes of a pixel
    expected = sum(rows * (1 + columns * width) for _, (rows, columns) in passes)
    filtered = zlib.decompressobj().decompress(data, expected)
    if len(filtered) < expected:
        raise FormatError(f"{path} is truncated: it has {len(filtered)} of {expected} bytes of pixels", hint=AGAIN)
    pixels = np.empty((header.height, header.width, header.samples), np.uint16)
    start = 0
    for (row, column, down, right), shape in passes:
        stop = start + shape[0] * (1 + shape[1] * width)
        pixels[row::down, column::right] = _unfiltered(filtered[start:stop], shape, width).view(">u2")
        start = stop
    return pixels


def _unfiltered(filtered: bytes, shape: tuple[int, int], width: int) -> Array:
    """Bytes (rows, columns, width) of a pass, whose filters are undone by Pillow.

    A filter relates a byte only to those at the same place in the neighbouring pixels. Each place is thus a grey
    picture of 8 bits with the same filters.
    """
    rows = np.frombuffer(filtered, np.uint8).reshape(shape[0], 1 + shape[1] * width)
    places = rows[:, 1:].reshape(*shape, width)
    result = np.empty(places.shape, np.uint8)
    header = struct.pack(">IIBBBBB", shape[1], shape[0], 8, 0, 0, 0, 0)
    for place in range(width):
        grey = np.hstack([rows[:, :1], places[..., place]]).tobytes()
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(grey, 0)), (b"IEND", b""))
        with Image.open(io.BytesIO(_png(chunks)), formats=["PNG"]) as image:
            result[..., place] = np.asarray(image)
    return result


def _png(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _chunks(stream: BinaryIO, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the chunks of a PNG file from the header to the end."""
    if stream.read(8) != SIGNATURE:
        raise FormatError(f"{path} is not a PNG file", hint=AGAIN)
    size, kind = path.stat().st_size, b""
    while kind != b"IEND":
        start, first = stream.read(8), not kind
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        if len(start) < 8 or length > size - stream.tell() - 4:
            raise FormatError(f"{path} is truncated: it ends inside a chunk", hint=AGAIN)
        if first and (kind != b"IHDR" or length != 13):
            raise FormatError(f"{path} does not begin with a PNG header", hint=AGAIN)
        body = stream.read(length)
        critical = not kind[0] & 0x20
        if int.from_bytes(stream.read(4), "big") != zlib.crc32(body, zlib.crc32(kind)) and critical:
            raise FormatError(
                f"{path} is damaged: the checksum of a {kind.decode('latin-1')} chunk differs", hint=AGAIN
            )
        yield kind, body
