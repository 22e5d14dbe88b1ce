"""What every reader of images checks before it takes memory: a header that the size of its file can bear out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import prod
from operator import index
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil

from attunet.data.volume import Array
from attunet.errors import ConfigError, FormatError

__all__ = ["AGAIN", "LONGEST_REST", "MAX_DEFLATE_RATIO", "check_size", "fill", "max_voxels"]

MAX_DEFLATE_RATIO = 1100
"""Deflate (gzip, zlib, PNG) compresses at most 1032 to 1; a header that declares more than that lies."""
DEFAULT_MAX_VOXELS = 2**32
VARIABLE = "ATTUNET_MAX_VOXELS"
SUSPICIOUS_RATIO = 2**14
"""More than any format compresses a mask in which something is; formats without a bound of their own reach millions."""
SMALL = 2**27
"""Bytes of values that any file may declare."""
LONGEST_REST = 2**30
"""Bytes before and behind the values of a compressed stream, which would be decompressed for nothing."""
CHUNK = 2**20
GB = 1e9
AGAIN = "copy or export it again"
"""What to do about a damaged file."""


def max_voxels() -> int:
    """Most values (voxels times channels) that a compressed file may declare: $ATTUNET_MAX_VOXELS, or 2^32.

    Raises: ConfigError when the variable is not a positive integer.
    """
    value = os.environ.get(VARIABLE, str(DEFAULT_MAX_VOXELS))
    if not (value.isascii() and value.isdecimal() and len(value) < 19 and int(value)):
        raise ConfigError(f"{VARIABLE} is {value[:40]!r}, expected a positive integer", hint="correct or unset it")
    return int(value)


def check_size(path: Path, shape: Iterable[int], itemsize: int, *, stored: int, ratio: float = 1.0) -> int:
    """Check the size that a header declares against that of its file, before memory is taken.

    Args:
        path: the file, for the message.
        shape: its axes, channels included.
        itemsize: bytes of one value.
        stored: bytes of the file that may hold values, as they are stored.
        ratio: largest ratio of compression; 1 for values that are stored as they are.
    Returns: bytes of all values, decompressed.
    Raises: FormatError when an axis is not positive, when the file is too small for its header, or when the
        decompressed values exceed `max_voxels`, a plausible ratio or the memory of this machine.
    """
    axes = tuple(index(size) for size in shape)
    if not axes or min(axes) < 1:
        raise FormatError(f"{path} contains no voxels: its header declares the shape {_short(axes)}", hint=AGAIN)
    declared = prod(axes) * itemsize
    if declared > stored * ratio:
        raise FormatError(
            f"{path} is truncated, or its header is damaged: it declares {_short(axes)} values of {itemsize} bytes, "
            f"but has {stored} bytes" + (" of compressed values" if ratio > 1 else " of them"),
            hint=AGAIN,
        )
    _check_limits(path, axes, declared, stored=stored if ratio > 1 else declared)
    return declared


def fill(array: Array, stream: BinaryIO, path: Path, *, skip: int = 0) -> int:
    """Read a contiguous array's bytes from a stream, then its rest, so that a checksum at its end is compared.

    Args:
        array: the array to fill, contiguous in C or Fortran order.
        stream: the decompressed bytes.
        path: the file, for the message.
        skip: bytes to pass over first.
    Returns: how many bytes follow the array's.
    Raises: FormatError when the stream ends early, or does not seem to end; so it may not pass over more than
        `LONGEST_REST` bytes first, either.
    """
    if skip > LONGEST_REST:
        raise FormatError(f"{path} declares {skip} bytes before its voxels", hint=AGAIN)
    while skip and (passed := stream.read(min(skip, CHUNK))):
        skip -= len(passed)
    into = array.reshape(-1, order="A").view(np.uint8).data
    held = 0
    while held < array.nbytes and (count := stream.readinto(into[held:])):  # type: ignore[attr-defined]
        held += count
    if held < array.nbytes:
        raise FormatError(
            f"{path} is truncated: its header declares {array.nbytes} bytes of voxels, it has {held}",
            hint=AGAIN,
        )
    more = 0
    while rest := stream.read(CHUNK):
        more += len(rest)
        if more > LONGEST_REST:
            raise FormatError(
                f"{path} goes on for more than {LONGEST_REST} bytes behind the {array.nbytes} bytes of its voxels",
                hint=AGAIN,
            )
    return more


def _check_limits(path: Path, axes: tuple[int, ...], declared: int, *, stored: int) -> None:
    raised = f"if that is right, raise the limit with the environment variable {VARIABLE}={prod(axes)}"
    if stored < declared and prod(axes) > max_voxels():
        raise FormatError(
            f"{path} declares {_short(axes)} values, more than {max_voxels()}, the limit for compressed files",
            hint=raised,
        )
    if declared > max(SMALL, stored * SUSPICIOUS_RATIO) and VARIABLE not in os.environ:
        raise FormatError(
            f"{path} declares {_short(axes)} values in {stored} bytes, more than {SUSPICIOUS_RATIO} in one byte",
            hint=raised,
        )
    memory = psutil.virtual_memory().total + psutil.swap_memory().total
    if declared > memory:
        raise FormatError(
            f"{path} needs {declared / GB:.0f} GB of memory, this machine has {memory / GB:.0f} GB",
            hint="crop or downsample it, or read it on a machine with more memory",
        )


def _short(axes: tuple[int, ...]) -> str:
    return " x ".join(str(size) if abs(size) < 10**18 else "more than 10^18" for size in axes)
