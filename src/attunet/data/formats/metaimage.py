"""MetaImage (.mha, .mhd): a strict reader; coordinates are LPS+, ours are RAS+.

Source: the documentation of MetaIO; where it is silent, the reader of ITK, with which tests compare this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from attunet.data.dataset import Problem
from attunet.data.formats.stored import StoredVoxels, numbered_files, read_stored
from attunet.data.formats.text_headers import (
    grid_volume,
    header_lines,
    integers,
    numbers,
    refused,
    unit_warning,
    world_scales,
)
from attunet.data.geometry import Affine
from attunet.data.volume import Volume
from attunet.documents import open_regular

__all__ = ["check_metaimage", "read_metaimage"]

TRUE = ("true", "t", "1", "yes", "y")
TYPES = {
    **{"MET_CHAR": "i1", "MET_ASCII_CHAR": "i1", "MET_SHORT": "i2", "MET_INT": "i4", "MET_LONG": "i4"},
    **{"MET_UCHAR": "u1", "MET_USHORT": "u2", "MET_UINT": "u4", "MET_ULONG": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
"""NumPy's names of the types, which may also end in _ARRAY or _MATRIX."""
ORIGINS = ("Origin", "Position", "Offset")  # the first that is there counts
DIRECTIONS = ("Orientation", "Rotation", "TransformMatrix")
LONGEST_NAME = 4096
NUMBERED = re.compile(r"(.*?%\S*)((?:\s+[+-]?\d{1,9}){0,3})")


@dataclass(frozen=True)
class MetaHeader:
    """A header.

    Args:
        path: its file.
        fields: name to value.
        listed: the lines behind it, which may name data files.
        end: where it ends, bytes.
    """

    path: Path
    fields: dict[str, str]
    listed: tuple[str, ...]
    end: int

    def numbers(self, names: tuple[str, ...], default: list[float]) -> Affine:
        """The numbers of the first field of these names that is there."""
        name = next((name for name in names if name in self.fields), None)
        return np.array(numbers(self.fields[name], name, self.path, len(default)) if name else default)

    def flag(self, *names: str) -> bool:
        """Whether the first field of these names that is there is true."""
        return next((self.fields[name].lower() in TRUE for name in names if name in self.fields), False)


def read_metaimage(path: Path) -> Volume:
    """Read a 2-D or 3-D image, its elements' channels as channels; a fourth axis becomes the channels too.

    Raises: FormatError when the header or the data files are damaged or lie outside the folder, GeometryError when the
        axes are no grid.
    """
    header = _read_header(path)
    axes = _dimensions(header)
    channels = integers(header.fields.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels", path, 1)[0]
    sizes = integers(header.fields.get("DimSize", ""), "DimSize", path, axes)
    if axes == 4 and channels > 1:
        raise refused(path, f"it has 4 axes of {channels} channels, expected at most three axes and the channels")
    values = read_stored(_stored(header, sizes, channels))
    array = np.moveaxis(values, -1, 0) if axes == 4 else values.reshape(channels, *sizes, order="F")
    ones, scales = [1.0] * axes, world_scales([header.fields.get("DistanceUnits", "")] * axes, axes)
    spacing = header.numbers(("ElementSpacing", "ElementSize"), ones) * scales
    direction = header.numbers(DIRECTIONS, np.eye(axes).ravel().tolist()).reshape(axes, axes).T
    origin = header.numbers(ORIGINS, [0.0] * axes) * scales
    return grid_volume(array, direction * spacing, origin, path)


def check_metaimage(path: Path) -> Iterator[Problem]:
    """Warnings about units that are converted. Raises: as `read_metaimage`."""
    yield from unit_warning([_read_header(path).fields.get("DistanceUnits", "")], path)


def _read_header(path: Path) -> MetaHeader:
    fields: dict[str, str] = {}
    with open_regular(path) as file:
        lines = header_lines(file, path)
        while "ElementDataFile" not in fields:
            line = next(lines, None)
            if line is None:
                raise refused(path, "it has no ElementDataFile, so it is not MetaImage")
            separator = next((letter for letter in line if letter in "=:"), None)
            if line and not separator:
                raise refused(path, f"{line[:80]!r} in its header is not of the form name = value")
            name, _, value = line.partition(separator or "=")
            fields[name.strip()] = value.strip()
        end = file.tell()
        listed = tuple(line for line in lines if line) if _words(fields)[0].upper() == "LIST" else ()
    return MetaHeader(path, fields, listed, end)


def _dimensions(header: MetaHeader) -> int:
    axes = integers(header.fields.get("NDims", ""), "NDims", header.path, 1)[0]
    if not 2 <= axes <= 4:
        raise refused(header.path, f"it has {axes} axes (NDims), expected two or three, and the channels")
    return axes


def _stored(header: MetaHeader, sizes: tuple[int, ...], channels: int) -> StoredVoxels:
    fields, path = header.fields, header.path
    kind = TYPES.get(re.sub("_(ARRAY|MATRIX)$", "", fields.get("ElementType", "")))
    if kind is None:
        raise refused(path, f"its ElementType is {fields.get('ElementType', '')[:80]!r}, expected {', '.join(TYPES)}")
    text = fields.get("BinaryData", "True").lower() not in TRUE
    order = ">" if header.flag("ElementByteOrderMSB", "BinaryDataByteOrderMSB") else "<"
    start = integers(fields.get("HeaderSize", "0"), "HeaderSize", path, 1)[0]
    files = _data_files(header, sizes)
    if not -1 <= start < 2**53:
        raise refused(path, f"its HeaderSize is {start}, expected a number of bytes, or -1")
    return StoredVoxels(
        header=path,
        files=files,
        start=start if files or start else header.end,
        shape=(channels, *sizes) if channels > 1 else sizes,
        dtype=np.dtype(order + kind),
        encoding="deflate" if header.flag("CompressedData") else "text" if text else "raw",
    )


def _data_files(header: MetaHeader, sizes: tuple[int, ...]) -> tuple[str, ...]:
    """The names of the data files; empty when the values follow the header."""
    name = header.fields["ElementDataFile"]
    if len(name) > LONGEST_NAME:
        raise refused(header.path, f"its data file has a name of {len(name)} letters, expected {LONGEST_NAME}")
    first, *more = _words(header.fields)
    if first.upper() == "LOCAL":
        return ()
    if first.upper() == "LIST":
        within = integers(" ".join(more).removesuffix("D"), "LIST", header.path)
        expected = prod(sizes[within[0] if within else -1 :])
        if len(header.listed) != expected:
            raise refused(header.path, f"it lists {len(header.listed)} data files, expected {expected}")
        return header.listed
    if numbered := NUMBERED.fullmatch(name):
        pattern, bounds = numbered[1], integers(numbered[2], "ElementDataFile", header.path)
        low, high, step = (*bounds, *(1, (bounds or (1,))[0] + sizes[-1] - 1, 1)[len(bounds) :])
        return numbered_files(pattern, range(low, high + 1, max(step, 1))[: sizes[-1] + 1], header.path)
    return (name,)


def _words(fields: dict[str, str]) -> list[str]:
    return fields["ElementDataFile"].split() or [""]
