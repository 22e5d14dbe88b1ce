"""The directories of a TIFF file: read and bounded before tifffile is given the file.

Truncated stacks, cycles of directories, counts and offsets beyond the file, and sizes that the file cannot hold end
here. Source: TIFF 6.0 (Adobe 1992), sections 2, 8 and 15; BigTIFF.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import BinaryIO

from attunet.data.formats.limits import AGAIN, MAX_DEFLATE_RATIO, check_size
from attunet.documents import open_regular
from attunet.errors import FormatError

__all__ = ["Directory", "check_directories"]

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANAR = 256, 257, 258, 259, 262, 277, 278, 284
YCBCR = 6  # its colours may be subsampled
STRIPS, TILES = (273, 279), (324, 325)  # offsets, byte counts
TILE_WIDTH, TILE_HEIGHT, SUBDIRECTORIES = 322, 323, 330
READ = {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANAR, *STRIPS, *TILES}
REDUCED_OR_MASK = 1 | 4  # bits of the kind of a subfile
SUBFILE, ORIENTATION, COLOURS, EXTRA_SAMPLES = 254, 274, 320, 338
ALIKE = {  # what every page must have in common with the first, because its tags are taken for all
    PHOTOMETRIC: "colours",
    ORIENTATION: "orientation",
    COLOURS: "palettes",
    EXTRA_SAMPLES: "extra samples",
}
READ |= {TILE_WIDTH, TILE_HEIGHT, SUBDIRECTORIES, SUBFILE, *ALIKE}
SEPARATE = 2
UNCOMPRESSED = 1
RATIOS = {UNCOMPRESSED: 1.0, 8: MAX_DEFLATE_RATIO, 32946: MAX_DEFLATE_RATIO, 5: 4096.0, 32773: 64.0}  # LZW, PackBits
MAX_TAGS = 4096
PRIVATE = 32768  # tags from here on belong to single programs, and are not used


@dataclass(frozen=True, kw_only=True)
class _ByteLayout:
    """TIFF or BigTIFF, in one byte order.

    Args:
        order: byte order, as for `struct`.
        offset: type of offsets and counts of values.
        count: type of the number of entries.
        inline: bytes of a value that fit into an entry.
    """

    order: str
    offset: str
    count: str
    inline: int

    @property
    def entry(self) -> int:
        """Bytes of an entry of a directory."""
        return 4 + 2 * self.inline


LAYOUTS = {
    b"II*\0": _ByteLayout(order="<", offset="I", count="H", inline=4),
    b"MM\0*": _ByteLayout(order=">", offset="I", count="H", inline=4),
    b"II+\0": _ByteLayout(order="<", offset="Q", count="Q", inline=8),
    b"MM\0+": _ByteLayout(order=">", offset="Q", count="Q", inline=8),
}


@dataclass(frozen=True)
class Directory:
    """One image of a TIFF file: the integer values of the tags that describe its size and segments."""

    tags: dict[int, tuple[int, ...]]

    def one(self, tag: int, default: int) -> int:
        """The only, or the first, value of a tag."""
        return self.tags[tag][0] if self.tags.get(tag) else default


class _Content:
    """The bytes of an open file; not mapped, because a file that becomes shorter meanwhile would end the process.

    Attributes: size, in bytes.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.size = stream, os.fstat(stream.fileno()).st_size

    def unpack(self, kind: str, place: int) -> tuple[int, ...]:
        """The integers at an offset, as `struct` reads them. Raises: struct.error beyond the end."""
        return struct.unpack(kind, self.read(place, struct.calcsize(kind)))

    def read(self, place: int, size: int) -> bytes:
        """The bytes at an offset. Raises: struct.error beyond the end."""
        if place + size > self.size:
            raise struct.error(f"byte {place + size} is beyond the end")
        self._stream.seek(place)
        return self._stream.read(size)


def check_directories(path: Path) -> list[Directory]:
    """Read every directory of a TIFF file, and check that it describes pixels that the file can hold.

    Returns: the directories of the main chain; those of reduced images below them are checked, too.
    Raises: FormatError when the file is no TIFF file, is truncated, or its directories form a cycle.
    """
    with open_regular(path) as stream:
        data = _Content(stream)
        layout = LAYOUTS.get(stream.read(4))
        if layout is None:
            raise FormatError(f"{path} is not a TIFF file", hint="give it the suffix of its format")
        try:
            (start,) = data.unpack(layout.order + layout.offset, 4 if layout.inline == 4 else 8)
            found = list(_chain(data, layout, start, path, set()))
        except struct.error as error:
            raise FormatError(f"{path} is truncated: a directory is beyond its end", hint=AGAIN) from error
    if not found:
        raise FormatError(f"{path} contains no image", hint=AGAIN)
    _check_alike([directory for directory in found if not directory.one(SUBFILE, 0) & REDUCED_OR_MASK], path)
    values = sum(directory.one(WIDTH, 1) * directory.one(HEIGHT, 1) for directory in found)
    check_size(path, (values, found[0].one(SAMPLES, 1)), 1, stored=data.size, ratio=float("inf"))
    return found


def _check_alike(pages: list[Directory], path: Path) -> None:
    """Make sure that the pages mean the same, those of reduced images and masks aside."""
    for tag, name in ALIKE.items():
        if len({page.tags.get(tag) for page in pages}) > 1:
            raise FormatError(f"{path} has pages of differing {name}", hint="save each page in a file of its own")


def _chain(data: _Content, layout: _ByteLayout, start: int, path: Path, seen: set[int]) -> Iterator[Directory]:
    """The directories from one offset on; those below them are checked on the way."""
    while start:
        if start in seen:
            raise FormatError(f"{path} is damaged: its directories form a cycle", hint=AGAIN)
        seen.add(start)
        tags, start = _tags(data, layout, start, path)
        for below in tags.get(SUBDIRECTORIES, ()):
            for _ in _chain(data, layout, below, path, seen):
                pass
        yield _checked(tags, data.size, path)


def _tags(data: _Content, layout: _ByteLayout, start: int, path: Path) -> tuple[dict[int, tuple[int, ...]], int]:
    """The integers of the tags in `READ`, and the offset of the next directory."""
    (count,) = data.unpack(layout.order + layout.count, start)
    if count > MAX_TAGS:
        raise FormatError(f"{path} is damaged: a directory declares {count} tags", hint=AGAIN)
    entries = start + struct.calcsize(layout.order + layout.count)
    block = data.read(entries, count * layout.entry + layout.inline)
    tags: dict[int, tuple[int, ...]] = {}
    for position in range(0, count * layout.entry, layout.entry):
        tag, kind, number = struct.unpack_from(f"{layout.order}HH{layout.offset}", block, position)
        size, value = TYPE_BYTES.get(kind, 1) * number, position + layout.entry - layout.inline
        (place,) = struct.unpack_from(layout.order + layout.offset, block, value)
        if size > data.size or (tag < PRIVATE and size > layout.inline and place + size > data.size):
            raise FormatError(f"{path} is truncated or damaged: tag {tag} is beyond its end", hint=AGAIN)
        if tag in READ and kind in INTEGERS:
            content = data.read(place, size) if size > layout.inline else block[value : value + size]
            tags[tag] = struct.unpack(f"{layout.order}{number}{INTEGERS[kind]}", content)
    (following,) = struct.unpack_from(layout.order + layout.offset, block, count * layout.entry)
    return tags, following


def _checked(tags: dict[int, tuple[int, ...]], size: int, path: Path) -> Directory:
    """A directory whose segments lie in the file and can hold its pixels."""
    directory = Directory(tags)
    width, height = directory.one(WIDTH, 0), directory.one(HEIGHT, 0)
    samples, bits, compression = (directory.one(tag, 1) for tag in (SAMPLES, BITS, COMPRESSION))
    offset_tag, count_tag = TILES if TILES[0] in tags else STRIPS
    offsets = tags.get(offset_tag, ())
    stored = -(-width * height * samples * bits // 8)
    counts = tags.get(count_tag) or (-(-stored // max(1, len(offsets))),) * len(offsets)
    planes = samples if directory.one(PLANAR, 1) == SEPARATE else 1
    if len(counts) != len(offsets) or len(offsets) < planes * _segments(directory, width, height):
        raise FormatError(f"{path} is damaged: {len(offsets)} segments of pixels, expected more", hint=AGAIN)
    end = max(map(sum, zip(offsets, counts, strict=True)), default=0)
    if end > size and compression == UNCOMPRESSED and len(offsets) == 1:
        end = offsets[0] + stored  # some writers count a whole strip where the last is shorter
    if end > size:
        raise FormatError(f"{path} is truncated: its pixels end at byte {end}, it has {size}", hint=AGAIN)
    itemsize = max(1, -(-bits // 8))
    ratio = RATIOS.get(compression, float("inf")) * 8 * itemsize / max(1, bits)
    sparse = any(count == 0 for count in counts)  # GDAL leaves out empty segments
    subsampled = directory.one(PHOTOMETRIC, 0) == YCBCR
    held = float("inf") if sparse or subsampled else ratio
    check_size(path, (samples, height, width), itemsize, stored=sum(counts) or 1, ratio=held)
    return directory


def _segments(directory: Directory, width: int, height: int) -> int:
    """The number of strips or tiles of a plane."""
    if TILES[0] in directory.tags:
        across = max(1, directory.one(TILE_WIDTH, width))
        return ceil(width / across) * ceil(height / max(1, directory.one(TILE_HEIGHT, height)))
    return ceil(height / max(1, min(height, directory.one(ROWS, height))))
