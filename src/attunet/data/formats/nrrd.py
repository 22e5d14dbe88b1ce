"""NRRD (.nrrd, .nhdr): a strict reader; coordinates are LPS+ or as the header says, ours are RAS+.

Source: the definition of the NRRD format, version 5; where it is silent, the reader of ITK, with which tests compare
this one.
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

__all__ = ["check_nrrd", "read_nrrd"]

MAGIC = re.compile(r"NRRD000[1-6]")
FIELDS = {
    *("type", "dimension", "sizes", "spacings", "thicknesses", "axismins", "axismaxs", "centerings", "labels", "units"),
    *("kinds", "space", "spacedimension", "spacedirections", "spaceorigin", "spaceunits", "measurementframe"),
    *("endian", "encoding", "content", "blocksize", "datafile", "lineskip", "byteskip", "sampleunits", "number"),
    *("min", "max", "oldmin", "oldmax", "centers"),
}
TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("signed long long int",), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    **{"float": "f4", "double": "f8"},
}
ENCODED = {
    **dict.fromkeys(("gz", "gzip"), "deflate"),
    **dict.fromkeys(("bz2", "bzip2"), "bzip2"),
    **dict.fromkeys(("txt", "text", "ascii"), "text"),
    "raw": "raw",
}
ORDERS = {"little": "<", "big": ">"}
POSITIONS = ("domain", "space", "time", "none", "???")  # kinds of axes that are not channels
FLIPS = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("scanner-xyz", "3d-right-handed", "3d-left-handed"), (1.0, 1.0, 1.0)),  # taken as LPS, as by ITK
}
VECTOR = re.compile(r"\(([^()]*)\)|none", re.IGNORECASE)


@dataclass(frozen=True)
class NrrdHeader:
    """A header.

    Args:
        path: its file.
        fields: name in lower case without blanks to value.
        listed: the lines after `data file: LIST`.
        end: where it ends, bytes.
        sizes: the axes, that which varies fastest first.
    """

    path: Path
    fields: dict[str, str]
    listed: tuple[str, ...]
    end: int
    sizes: tuple[int, ...]

    def numbers(self, name: str) -> Affine:
        """One number for each axis; nan for all when the field is missing."""
        text = self.fields.get(name, "nan " * len(self.sizes))
        return np.array(numbers(text, name, self.path, len(self.sizes)))

    @property
    def space_axes(self) -> int | None:
        """Axes of the space of the directions; None without a space."""
        if name := self.fields.get("space"):
            return 4 if name.lower().endswith("time") or name.upper() in ("RAST", "LAST", "LPST") else 3
        text = self.fields.get("spacedimension")
        return None if text is None else integers(text, "space dimension", self.path, 1)[0]

    @property
    def directions(self) -> list[Affine | None]:
        """The vector of each axis in space, None where it is none; empty without directions."""
        text, axes = self.fields.get("spacedirections"), self.space_axes
        if text is None or axes is None:
            return []
        vectors = [match[1] for match in VECTOR.finditer(text)]
        if len(vectors) != len(self.sizes):
            raise refused(self.path, f"space directions has {len(vectors)} vectors, expected {len(self.sizes)}")
        return [v if v is None else np.array(numbers(v, "space directions", self.path, axes)) for v in vectors]


def read_nrrd(path: Path) -> Volume:
    """Read a 2-D or 3-D image, its list, vector or colour axis as channels; otherwise a fourth axis.

    Raises: FormatError when the header or the data files are damaged or lie outside the folder, GeometryError when the
        axes are no grid.
    """
    header = _read_header(path)
    directions = header.directions
    channel = _channel_axis(header, directions)
    spatial = [axis for axis in range(len(header.sizes)) if axis != channel]
    if not 2 <= len(spatial) <= 3:
        raise refused(path, f"it has {len(spatial)} spatial axes, expected two or three")
    array = read_stored(_stored(header))
    array = array[None] if channel is None else np.moveaxis(array, channel, 0)
    if any(vector is not None for vector in directions):
        columns, origin = _oriented(header, [directions[axis] for axis in spatial])
    else:
        columns, origin = _straight(header, spatial)
    return grid_volume(array, columns, origin, path)


def check_nrrd(path: Path) -> Iterator[Problem]:
    """Warnings about units that are converted. Raises: as `read_nrrd`."""
    yield from unit_warning(_units(_read_header(path)), path)


def _read_header(path: Path) -> NrrdHeader:
    fields: dict[str, str] = {}
    with open_regular(path) as file:
        lines = header_lines(file, path)
        if not MAGIC.fullmatch(next(lines, "")):
            raise refused(path, "it does not begin with NRRD0001 to NRRD0006, so it is not NRRD")
        for line in lines:
            if not line or fields.get("datafile", "").upper().startswith("LIST"):
                break
            name, separator, value = line.partition(":")
            key = name.lower().replace(" ", "")
            if line.startswith("#") or value.startswith("="):  # a comment, or a key with its value
                continue
            if not separator or key not in FIELDS or key in fields:
                raise refused(path, f"{line[:80]!r} in its header is not a field of NRRD, or occurs twice")
            fields[key] = value.strip()
        listed = (line, *lines) if fields.get("datafile", "").upper().startswith("LIST") else ()
        end, ended = file.tell(), not line
    if not (ended or "datafile" in fields):
        raise refused(path, "its header has neither an end nor a data file")
    axes = integers(fields.get("dimension", ""), "dimension", path, 1)[0]
    if not 2 <= axes <= 5:
        raise refused(path, f"it has {axes} axes (dimension), expected two or three, and the channels")
    sizes = integers(fields.get("sizes", ""), "sizes", path, axes)
    return NrrdHeader(path, fields, tuple(name for name in listed if name), end, sizes)


def _channel_axis(header: NrrdHeader, directions: list[Affine | None]) -> int | None:
    """The axis of the channels: that of a kind with no position in space, or without a direction, or the fourth."""
    kinds = header.fields.get("kinds", "").lower().split() or ["???"] * len(header.sizes)
    if len(kinds) != len(header.sizes):
        raise refused(header.path, f"kinds has {len(kinds)} entries, expected {len(header.sizes)}")
    if "complex" in kinds:
        raise refused(header.path, "it contains complex values, expected real numbers")
    found = [axis for axis, kind in enumerate(kinds) if kind not in POSITIONS]
    found = found or [axis for axis, direction in enumerate(directions) if direction is None]
    if len(found) > 1:
        raise refused(header.path, f"it has {len(found)} axes that are not spatial ({', '.join(kinds)}), expected one")
    return found[0] if found else 3 if len(kinds) == 4 else None


def _oriented(header: NrrdHeader, directions: list[Affine | None]) -> tuple[Affine, Affine]:
    """The edges of a voxel as columns, and the origin, in LPS+ and mm."""
    axes, known = header.space_axes or 0, [vector for vector in directions if vector is not None]
    directed = sum(vector is not None for vector in header.directions)
    if len(known) < len(directions) or axes != directed:
        raise refused(header.path, f"it has {directed} axes with a direction in a space of {axes}, expected as many")
    begin = header.fields.get("spaceorigin", "0 " * axes).strip("()")
    origin = np.nan_to_num(numbers(begin, "space origin", header.path, axes))
    scale = (np.array((*_flips(header), 1.0)[:axes]) * world_scales(_units(header), axes))[: len(known)]
    return scale[:, None] * np.array(known).T[: len(known)], scale * origin[: len(known)]


def _flips(header: NrrdHeader) -> tuple[float, float, float]:
    """The signs that turn the axes of the header's space into those of LPS+."""
    name = header.fields.get("space", "lps").lower().removesuffix("-time").removesuffix("t")
    if name not in FLIPS:
        raise refused(header.path, f"its space is {name[:40]!r}, expected one of {', '.join(FLIPS)}")
    return FLIPS[name]


def _straight(header: NrrdHeader, spatial: list[int]) -> tuple[Affine, Affine]:
    """Edges and origin of a grid along the axes of LPS+, from spacings and the positions of the axes' ends."""
    spacings, low, high = (header.numbers(name)[spatial] for name in ("spacings", "axismins", "axismaxs"))
    centers = header.fields.get("centerings", header.fields.get("centers", "")).lower().split()
    if header.space_axes is not None:
        raise refused(header.path, "it names a space, but no space directions")
    nodes = np.array([(*centers, *["cell"] * 5)[axis] == "node" for axis in spatial])
    between = np.array([header.sizes[axis] for axis in spatial]) - nodes
    spacings = np.where(np.isnan(spacings), (high - low) / np.maximum(between, 1), spacings)
    spacings = np.where(np.isnan(spacings), 1.0, spacings)
    scale = world_scales([(*_units(header), *[""] * 5)[axis] for axis in spatial], len(spatial))
    return np.diag(spacings * scale), np.nan_to_num(low + np.where(nodes, 0, spacings / 2)) * scale


def _units(header: NrrdHeader) -> list[str]:
    """The unit of each axis of the space, or of each axis where there is no space."""
    return re.findall(r'"([^"]*)"', header.fields.get("spaceunits" if header.space_axes else "units", ""))


def _stored(header: NrrdHeader) -> StoredVoxels:
    fields, path = header.fields, header.path
    kind = TYPES.get(" ".join(fields.get("type", "").lower().split()))
    encoding = ENCODED.get(fields.get("encoding", "").lower())
    if kind is None or encoding is None:
        given = " and ".join(f"{name} {fields.get(name, '')[:40]!r}" for name in ("type", "encoding"))
        raise refused(path, f"it has {given}, expected a number type such as int16, and one of {', '.join(ENCODED)}")
    order = ORDERS.get(fields.get("endian", "little" if kind[1] == "1" or encoding == "text" else "").lower())
    if order is None:
        raise refused(path, f"its endian is {fields.get('endian', '')[:40]!r}, expected little or big")
    lines = integers(fields.get("lineskip", "0"), "line skip", path, 1)[0]
    skip = integers(fields.get("byteskip", "0"), "byte skip", path, 1)[0]
    at_end = skip == -1 and encoding == "raw"
    if not 0 <= lines < 2**31 or not (0 <= skip < 2**53 or at_end):
        raise refused(path, f"it skips {lines} lines and {skip} bytes, expected no negative number, or -1 of raw data")
    files = _data_files(header)
    return StoredVoxels(
        header=path,
        files=files,
        start=-1 if at_end else 0 if files else header.end,
        lines=lines,
        skip=max(skip, 0),
        shape=header.sizes,
        dtype=np.dtype(order + kind),
        encoding=encoding,
    )


def _data_files(header: NrrdHeader) -> tuple[str, ...]:
    """The names of the data files; empty when the values follow the header."""
    name, sizes, path = header.fields.get("datafile"), header.sizes, header.path
    if name is None:
        return ()
    words = name.split() or [""]
    if words[0].upper() == "LIST":
        within = integers(" ".join(words[1:]), "data file", path)
        found = header.listed
    elif len(words) in (4, 5) and "%" in words[0]:
        low, high, step, *more = integers(" ".join(words[1:]), "data file", path)
        within = tuple(more)
        span = range(low, high + (1 if step > 0 else -1), step or 1)
        found = numbered_files(words[0][:4096], span[: 2**16], path)
    else:
        return (name,)
    slab = within[0] if within else len(sizes) - 1
    if slab != len(sizes) and len(found) != prod(sizes[slab:]):
        raise refused(path, f"it names {len(found)} data files, expected {prod(sizes[slab:])}")
    return found
