"""Voxels of text headers (NRRD, MetaImage): behind the header or in files beside it, raw, compressed or as text."""

from __future__ import annotations

import bz2
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from isal import igzip, igzip_lib

from attunet.data.formats.limits import MAX_DEFLATE_RATIO, check_size, fill
from attunet.data.volume import Array
from attunet.documents import open_regular
from attunet.errors import FormatError

__all__ = ["ENCODINGS", "StoredVoxels", "files_outside", "numbered_files", "read_stored"]

_OUTSIDE: ContextVar[bool] = ContextVar("_OUTSIDE", default=False)
CHUNK = 2**18
LONGEST_LINE = 2**16
MAX_BZIP2_RATIO = 2**16
GZIP = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class StoredVoxels:
    """Where the values of an image are, and how they are stored.

    Args:
        header: the file whose header says so.
        files: names of the data files, each with an equal part of the values, in order; empty: `header` itself.
        start: byte of each file where the stored values begin; -1: they end at the end of the file.
        lines: lines to pass over after that.
        skip: bytes to pass over after that, of the decompressed values.
        shape: the axes, that which varies fastest first.
        dtype: type of the values, with its byte order.
        encoding: a key of `ENCODINGS`.
    """

    header: Path
    files: tuple[str, ...] = ()
    start: int = 0
    lines: int = 0
    skip: int = 0
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    encoding: str


class Encoding(NamedTuple):
    """A way to store values.

    Args:
        ratio: largest ratio of compression.
        open: the decompressed bytes of an open file.
    """

    ratio: float
    open: Callable[[BinaryIO], BinaryIO]


class _Inflated(io.RawIOBase):
    """The bytes of a zlib stream, whose checksum is compared at its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._inflate.eof:
            packed = self._file.read(CHUNK) if self._inflate.needs_input else b""
            if self._inflate.needs_input and not packed:
                raise EOFError("the compressed values end early")
            if piece := self._inflate.decompress(packed, len(into)):
                into[: len(piece)] = piece
                return len(piece)
        return 0


def _deflated(file: BinaryIO) -> BinaryIO:
    """The bytes of a zlib or gzip stream, whichever begins here."""
    begin = file.read(len(GZIP))
    file.seek(-len(begin), io.SEEK_CUR)
    return cast(BinaryIO, igzip.open(file, "rb") if begin == GZIP else io.BufferedReader(_Inflated(file), CHUNK))


ENCODINGS: dict[str, Encoding] = {
    "raw": Encoding(1, lambda file: file),
    "deflate": Encoding(MAX_DEFLATE_RATIO, _deflated),
    "bzip2": Encoding(MAX_BZIP2_RATIO, lambda file: cast(BinaryIO, bz2.BZ2File(file))),
    "text": Encoding(1, lambda file: file),
}
"""The ways to store values; text is numbers separated by blanks or commas."""


@contextmanager
def files_outside(allowed: bool) -> Iterator[None]:
    """Within the block, whether headers may name data files outside their own folder; by default they may not."""
    token = _OUTSIDE.set(allowed)
    try:
        yield
    finally:
        _OUTSIDE.reset(token)


def read_stored(stored: StoredVoxels) -> Array:
    """Read the values of an image.

    Returns: an array of the stored shape in Fortran order.
    Raises: FormatError when a data file lies outside the folder of its header, is missing, or does not hold the
        declared values; whatever a decompressor raises on damaged bytes.
    """
    paths = [_beside(stored.header, name) for name in stored.files] or [stored.header]
    if len(set(paths)) < len(paths) or prod(stored.shape) % len(paths):
        raise FormatError(
            f"{stored.header} lists {len(paths)} data files for the shape {stored.shape}, expected a file per slice",
            hint="correct the list in the header",
        )
    size = sum(path.stat().st_size - max(stored.start, 0) for path in paths)
    least = 1 if stored.encoding == "text" else stored.dtype.itemsize  # a digit, at least
    check_size(stored.header, stored.shape, least, stored=size, ratio=ENCODINGS[stored.encoding].ratio)
    array = np.empty(stored.shape, stored.dtype, order="F")
    for path, part in zip(paths, np.split(array.reshape(-1, order="F"), len(paths)), strict=True):
        with open_regular(path) as file:
            _read_part(part, stored, file, path)
    return array


def _read_part(part: Array, stored: StoredVoxels, file: BinaryIO, path: Path) -> None:
    """Fill a flat part of the array from its file."""
    if stored.start >= 0:
        file.seek(stored.start)
    elif (size := os.fstat(file.fileno()).st_size) >= part.nbytes:
        file.seek(size - part.nbytes)
    for _ in range(stored.lines):
        if len(file.readline(LONGEST_LINE)) in (0, LONGEST_LINE):
            raise FormatError(f"{path} has fewer lines before its voxels than declared", hint="correct the header")
    if stored.encoding == "text":
        part[:] = _numbers(file.read(), part, path)
        return
    if raw := stored.encoding == "raw":
        file.seek(stored.skip, io.SEEK_CUR)
    with ENCODINGS[stored.encoding].open(file) as stream:
        more = fill(part, stream, path, skip=0 if raw else stored.skip)
    if more and part.size < prod(stored.shape):
        raise FormatError(
            f"{path} has {more} bytes more than one of {prod(stored.shape) // part.size} parts of {stored.header}",
            hint="correct the sizes or the list of files in the header",
        )


def _numbers(text: bytes, part: Array, path: Path) -> Array:
    words = text.replace(b",", b" ").split()
    if len(words) != part.size:
        raise FormatError(f"{path} contains {len(words)} numbers, expected {part.size}", hint="export it again")
    return np.array(words).astype(part.dtype)


def numbered_files(pattern: str, numbers: range, header: Path) -> tuple[str, ...]:
    """The names that a pattern such as slice_%03d.raw stands for.

    Args:
        pattern: a name with one integer conversion as of printf.
        numbers: the numbers to insert.
        header: the header, for the message.
    Returns: a name for each number.
    Raises: FormatError for another pattern.
    """
    before, mark, rest = pattern.partition("%")
    width, conversion, after = rest.partition("d")
    if not (mark and conversion and len(width) <= 2 and width.isdecimal() | (not width)) or "%" in after:
        raise FormatError(
            f"{header} names its data files {pattern[:80]!r}, expected one conversion such as %03d",
            hint="correct the header",
        )
    return tuple(f"{before}{f'%{width}d' % number}{after}" for number in numbers)


def _beside(header: Path, name: str) -> Path:
    """The path of a data file, which lies in the folder of its header, whatever links are on the way."""
    path = header.parent / name
    try:
        resolved = path.resolve(strict=True)
        folders = {header.parent.resolve(), header.resolve().parent}
    except (OSError, ValueError, RuntimeError) as error:
        raise FormatError(
            f"cannot read {header}: its data file {name[:200]!r} is missing",
            hint="put the data file next to the header, under the name that the header gives",
        ) from error
    if not _OUTSIDE.get() and not any(resolved.is_relative_to(folder) for folder in folders):
        raise FormatError(
            f"{header} names a data file outside its folder: {name[:200]!r}, which is {resolved}",
            hint="put the data file next to the header, or read the data set with --allow-outside if you trust it",
        )
    return resolved
