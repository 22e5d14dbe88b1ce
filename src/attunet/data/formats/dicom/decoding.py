"""Decoding: the stored values of one image of a file, in any transfer syntax, before any rescale.

Uncompressed values are read as they are, compressed ones by `compressed`.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from attunet.data.formats.dicom.compressed import decompress
from attunet.data.formats.dicom.data_sets import DEFLATED, open_data_set, parsing, read_elements
from attunet.data.formats.dicom.slices import PALETTE, PixelLayout, StoredSlice
from attunet.data.formats.limits import AGAIN
from attunet.data.volume import Array
from attunet.documents import open_regular
from attunet.errors import FormatError

__all__ = ["decode", "image_dtype"]

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
NATIVE = (IMPLICIT, EXPLICIT, BIG, DEFLATED)
"""Transfer syntaxes whose values are stored as they are."""
GREY = ("MONOCHROME1", "MONOCHROME2", PALETTE)
PALETTES = tuple(
    f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")
)
"""The elements that give the colours of indexes."""
PIXELS = (0x7FE0, 0x0010)
ITEM = (0xFFFE, 0xE000)
UNDEFINED = 0xFFFFFFFF
MOST_FRAGMENTS = 10**6


def image_dtype(layout: PixelLayout) -> np.dtype[np.generic]:
    """The type of stored values, in the machine's byte order. Raises: FormatError for a kind that is not read."""
    if (layout.samples == 1) is not (layout.photometric in GREY) or layout.samples not in (1, 3):
        raise FormatError(
            f"its pixels of {layout.samples} samples are of the kind {layout.photometric}, which is not read",
            hint="export it in grey values or RGB",
        )
    if layout.allocated not in (8, 16, 32) or not 0 < layout.stored <= layout.allocated > layout.high:
        raise FormatError(
            f"its values of {layout.stored} of {layout.allocated} bits are not read", hint="export it with 8 or 16 bits"
        )
    return np.dtype(f"{'i' if layout.signed else 'u'}{layout.allocated // 8}")


def decode(one: StoredSlice, scratch: Path) -> Array:
    """The stored values of an image.

    Args:
        one: the image.
        scratch: a file that may be overwritten.
    Returns: (rows, columns) of grey values, or (rows, columns, 3) of red, green and blue, for indexes into colours too.
    Raises: FormatError when the values are missing, cut short or damaged.
    """
    layout = one.layout
    dtype = image_dtype(layout)
    with open_regular(one.path) as file:
        stream = open_data_set(file, one.path, layout.syntax)
        size = stream.seek(0, 2)
        representation, length = _open_pixels(stream, one)
        begin = stream.tell()
        if layout.syntax in NATIVE and length != UNDEFINED:
            declared = layout.frames * layout.rows * layout.columns * layout.samples * dtype.itemsize
            if declared > min(length, size - begin):
                held = min(length, size - begin)
                raise FormatError(
                    f"{one.path} is truncated, or its header is damaged: it declares {declared} bytes of pixels, "
                    f"and has {held}",
                    hint=AGAIN,
                )
            values = _native(stream, one, dtype, swapped=representation == b"OW")
        else:
            fragments = _fragments(stream, size, one)
            values = decompress(_joined(stream, fragments, one), one, scratch)
    if layout.photometric == PALETTE:
        return _coloured(values, one)
    if one.tile is not None:
        row, column, rows, columns = one.tile
        values = values[row : row + rows, column : column + columns]
    return values


def _open_pixels(stream: BinaryIO, one: StoredSlice) -> tuple[bytes, int]:
    """Go to the values of the pixels; their representation, and their length in bytes."""
    order = ">" if one.layout.syntax == BIG else "<"
    stream.seek(one.start)
    head = stream.read(8)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != PIXELS:
        raise FormatError(f"{one.path} contains no pixels of integers", hint=AGAIN)
    if one.layout.syntax == IMPLICIT:
        return b"OW", int(struct.unpack("<L", head[4:])[0])
    if head[4:6] in (b"OB", b"OW", b"UN"):
        return head[4:6], int(struct.unpack(f"{order}L", stream.read(4))[0])
    return head[4:6], int(struct.unpack(f"{order}H", head[6:])[0])


def _native(stream: BinaryIO, one: StoredSlice, dtype: np.dtype[np.generic], *, swapped: bool) -> Array:
    layout, big = one.layout, one.layout.syntax == BIG
    count = layout.rows * layout.columns * layout.samples
    start = one.frame * count * dtype.itemsize
    odd = big and swapped and dtype.itemsize == 1  # bytes in words, the second one first
    stream.seek(start - (start % 2 if odd else 0), 1)
    held = stream.read(count * dtype.itemsize + (2 if odd else 0))
    if odd:
        held = np.frombuffer(held[: len(held) // 2 * 2], "u2").byteswap().tobytes()[start % 2 :]
    if len(held) < count * dtype.itemsize:
        raise FormatError(f"{one.path} is truncated within {one.name}", hint=AGAIN)
    values = np.frombuffer(held, dtype.newbyteorder(">" if big else "<"), count)
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    if layout.planar:
        return _as_rgb(np.moveaxis(values.reshape(layout.samples, layout.rows, layout.columns), 0, -1), one)
    return _as_rgb(values.reshape(layout.rows, layout.columns, layout.samples), one)


def _as_rgb(values: Array, one: StoredSlice) -> Array:
    photometric = one.layout.photometric
    if photometric == "RGB":
        return values
    if photometric in ("YBR_FULL",) and values.dtype.itemsize == 1 and values.shape[-1] == 3:
        from pydicom.pixels.processing import convert_color_space

        converted: Array = convert_color_space(np.ascontiguousarray(values), photometric, "RGB")
        return converted
    raise FormatError(f"{one.path} has colours of the kind {photometric}, which is not read", hint="export it as RGB")


def _coloured(indexes: Array, one: StoredSlice) -> Array:
    """The colours of indexes in 8 bits. Raises: FormatError when the file does not give them, or not as tables."""
    from pydicom.pixels.processing import apply_color_lut

    dataset = read_elements(one.path, PALETTES).dataset
    with parsing(one.path):
        if len(dataset) < len(PALETTES):
            raise FormatError(f"{one.path} gives no tables of its colours", hint="export it as RGB")
        colours: Array = apply_color_lut(indexes, dataset)
    return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)


def _fragments(stream: BinaryIO, size: int, one: StoredSlice) -> list[tuple[int, int]]:
    """Begin and length of the pieces of the compressed image."""
    begin = stream.tell()
    table, pieces = _items(one.path, begin, size, one.layout.syntax == BIG)
    frames = one.layout.frames
    if len(pieces) == frames:
        return [pieces[one.frame]]
    if frames == 1:
        return list(pieces)
    offsets = [*table, 2 * size]
    if len(table) != frames or sorted(offsets) != offsets or not pieces:
        raise FormatError(f"{one.path} declares {frames} frames and has {len(pieces)} pieces of them", hint=AGAIN)
    origin = pieces[0][0] - 8
    inside = range(offsets[one.frame], offsets[one.frame + 1])
    return [piece for piece in pieces if piece[0] - 8 - origin in inside]


@lru_cache(maxsize=16)
def _items(path: Path, begin: int, size: int, big: bool) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """The table of offsets of encapsulated pixels, and begin and length of their items."""
    order = ">" if big else "<"
    pieces: list[tuple[int, int]] = []
    table: tuple[int, ...] | None = None
    with open_regular(path) as stream:
        stream.seek(begin)
        while len(head := stream.read(8)) == 8 and len(pieces) <= MOST_FRAGMENTS:
            group, element, length = struct.unpack(f"{order}HHL", head)
            if (group, element) != ITEM or length == UNDEFINED:
                break
            at = stream.tell()
            if at + length > size:
                raise FormatError(f"{path} is truncated within its pixels", hint=AGAIN)
            if table is None:
                held = stream.read(length // 4 * 4)
                table = struct.unpack(f"{order}{len(held) // 4}L", held)
            else:
                pieces.append((at, length))
            stream.seek(at + length)
    return table or (), tuple(pieces)


def _joined(stream: BinaryIO, fragments: list[tuple[int, int]], one: StoredSlice) -> bytes:
    """The compressed image, from its pieces."""
    pieces = []
    for begin, length in fragments:
        stream.seek(begin)
        pieces.append(stream.read(length))
    if not any(pieces):
        raise FormatError(f"{one.path} has no pixels of {one.name}", hint=AGAIN)
    return b"".join(pieces)
