"""What the text headers of NRRD and MetaImage have in common: bounded lines, numbers, units, and a grid in LPS+.

The warning about units is that of NIfTI, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import isinf
from pathlib import Path
from typing import BinaryIO

import numpy as np

from attunet.data.dataset import Problem
from attunet.data.formats.voxels import to_native
from attunet.data.geometry import LPS_TO_RAS, MM_PER_UNIT, Affine, length_unit
from attunet.data.volume import Array, Volume
from attunet.errors import FormatError

__all__ = ["grid_volume", "header_lines", "integers", "numbers", "refused", "unit_warning", "world_scales"]

LONGEST_LINE = 2**16
MOST_LINES = 2**16
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def refused(path: Path, message: str) -> FormatError:
    """The error of a header that cannot be used."""
    return FormatError(f"cannot read {path}: {message}", hint="correct the header, or export the image again")


def header_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """The lines of a file from here on, stripped, until its end.

    Raises: FormatError when there are longer lines or more of them than a header has, or other bytes than text.
    """
    for _ in range(MOST_LINES):
        line = file.readline(LONGEST_LINE)
        if not line:
            return
        if len(line) == LONGEST_LINE or b"\0" in line:
            break
        yield line.decode("utf-8", "surrogateescape").strip()
    raise refused(path, "its header is not text, or has no end")


def integers(text: str, field: str, path: Path, count: int | None = None) -> tuple[int, ...]:
    """The integers of a field.

    Args:
        text: the value of the field.
        field: its name, for the message.
        path: the file, for the message.
        count: how many there must be; None: any number.
    Returns: the integers in order.
    Raises: FormatError when there is anything else.
    """
    words = text.split()
    if not all(map(INTEGER.fullmatch, words)) or len(words) != (len(words) if count is None else count):
        raise refused(path, f"{field} is {text[:80]!r}, expected {'' if count is None else count} integers")
    return tuple(int(word) for word in words)


def numbers(text: str, field: str, path: Path, count: int) -> tuple[float, ...]:
    """The numbers of a field, which may be nan.

    Args:
        text: the value of the field, separated by blanks or commas.
        field: its name, for the message.
        path: the file, for the message.
        count: how many there must be.
    Returns: the numbers in order.
    Raises: FormatError when there is anything else.
    """
    try:
        values = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        values = ()
    if len(values) != count or any(map(isinf, values)):
        raise refused(path, f"{field} is {text[:80]!r}, expected {count} finite numbers")
    return values


def world_scales(units: Sequence[str], axes: int) -> Affine:
    """Millimetres per unit of each axis: 1 where a unit is missing or no known length."""
    known = [length_unit(unit) for unit in units]
    return np.array([MM_PER_UNIT[unit] if unit else 1.0 for unit in (*known, *[None] * axes)[:axes]])


def unit_warning(units: Sequence[str], path: Path) -> Iterator[Problem]:
    """A warning when a header gives lengths in another unit than mm, which are converted, or in an unknown one."""
    found = {unit.strip('"') for unit in units} - {"", "?", "mm"}
    for unit in sorted(found):
        known = length_unit(unit)
        if known != "mm":
            what = f"in {unit}: it is converted to mm" if known else f"in an unknown unit ({unit[:20]}): mm are assumed"
            remedy = "nothing if this is right; repair the header if it is not"
            yield Problem("", "unit", f"{path.name} gives its voxel size {what}", remedy, "warning")


def grid_volume(array: Array, columns: Affine, origin: Affine, path: Path) -> Volume:
    """A volume from values and a grid in LPS+.

    Args:
        array: (C, I, J) or (C, I, J, K) as stored.
        columns: (axes, axes), the edges of a voxel in mm.
        origin: (axes,), the centre of the first voxel in mm.
        path: the file, for messages.
    Returns: the volume on its grid in RAS+.
    Raises: FormatError when the values are no real numbers, GeometryError when the edges are no grid.
    """
    axes = array.ndim - 1
    affine = np.eye(4)
    affine[:axes, :axes], affine[:axes, 3] = columns[:axes, :axes], origin[:axes]
    with np.errstate(over="ignore", invalid="ignore"):
        affine = LPS_TO_RAS @ affine
    return Volume(to_native(array if axes == 3 else array[..., None], path), affine)
