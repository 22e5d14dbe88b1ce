"""OME-Zarr (NGFF), which is only read: the finest level of an image, with the spacing and units of its axes.

Files: `.zattrs` and `.zarray` of Zarr 2 (NGFF to 0.4), or `zarr.json` of Zarr 3 (NGFF from 0.5). Only codecs that
compress or reorder numbers are accepted: some of Zarr 2's filters run code. Source: https://ngff.openmicroscopy.org.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from attunet.data.dataset import Problem
from attunet.data.formats.arrays import require_reader
from attunet.data.formats.limits import check_size
from attunet.data.formats.series import WHOLE, Series, WhatToRead, pick_frame, require_frame
from attunet.data.formats.voxels import to_native
from attunet.data.geometry import MM_PER_UNIT, length_unit
from attunet.data.volume import Array, Volume
from attunet.documents import open_regular, parse_document
from attunet.errors import FormatError
from attunet.names import listed

__all__ = ["check_ome_zarr", "ome_zarr_series", "read_ome_zarr"]

LARGEST_METADATA = 2**26
CODECS = {
    *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
    *("bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"),
    *("adler32", "crc32", "crc32c", "fletcher32"),
    *("bytes", "sharding_indexed", "transpose"),
}
"""Codecs that may decode a chunk, as Zarr 2 (`id`) or Zarr 3 (`name`, perhaps after "numcodecs.") calls them."""
DEFAULT_AXES = "tczyx"
PLAIN_AXES = {2: "yx", 3: "yxz", 4: "cyxz"}
SPACE = "space"
KINDS = {"c": "channel", "t": "time"}


@dataclass(frozen=True)
class ZarrImage:
    """An image in a Zarr folder.

    Args:
        array: path of its finest array, below the folder.
        axes: the name of each axis, and its kind: space, channel or time.
        scale, offset: of the space that the indices of each axis become, in the units of the axes.
        units: of each axis; None where it has none, or one that is no length.
        calibrated: whether the metadata have a scale.
    """

    array: str
    axes: tuple[tuple[str, str], ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    units: tuple[str | None, ...]
    calibrated: bool


def read_ome_zarr(path: Path, part: WhatToRead = WHOLE) -> Volume:
    """Read the finest level of an image as a volume (C, rows, columns, slices), with its spacing in mm.

    The key of `part` is the image below the folder, such as 0 or labels/nuclei, or an array without metadata; its
    frame is a time. Without channels, the times of a series are channels.
    Raises: FormatError when the metadata or the codecs cannot be used, there is no such image, or zarr is missing.
    """
    require_reader("zarr", path)
    image, array = _open(path, part.key)
    order, times = _order(image, array.shape, path)
    frame = part.frame
    if frame is not None and times > 1:
        require_frame(frame, times, path)
    if frame is None and times > 1 and _size(image, array.shape, "channel") > 1:
        raise FormatError(
            f"{path} has {times} times of {_size(image, array.shape, 'channel')} channels, expected one time",
            hint=f"choose one with --frame, 0 to {times - 1}",
        )
    names = [kind for _, kind in image.axes]
    chosen = tuple(frame if kind == "time" and frame is not None and times > 1 else slice(None) for kind in names)
    values = to_native(np.asarray(array[chosen]), path)
    kept = [axis for axis, index in enumerate(chosen) if isinstance(index, slice)]
    volume = _volume(values, [order.index(axis) if axis in order else -1 for axis in kept], image, order)
    return volume if times > 1 else pick_frame(volume, part, path) if volume.channels == 1 else volume


def check_ome_zarr(path: Path) -> Iterator[Problem]:
    """Warnings about units that are converted or missing. Raises: as `read_ome_zarr`."""
    image = _find(path, None)
    units = {unit for unit, (_, kind) in zip(image.units, image.axes, strict=True) if kind == SPACE}
    if image.calibrated and None in units:
        found = f"{path.name} gives its voxel size without a unit: mm are assumed"
        yield Problem("", "unit", found, "nothing if this is right; otherwise add units to its axes", "warning")
    elif image.calibrated and units != {"mm"}:
        found = f"{path.name} gives its voxel size in {', '.join(sorted(filter(None, units)))}: it is converted to mm"
        yield Problem("", "unit", found, "nothing if this is right", "warning")


def ome_zarr_series(path: Path) -> Series | None:
    """The series of an image with several times; None for other images. Raises: as `read_ome_zarr`."""
    image, array = _open(path, None)
    times = _size(image, array.shape, "time")
    return Series(times) if times > 1 else None


def _open(path: Path, key: str | None) -> tuple[ZarrImage, Any]:
    import zarr

    image = _find(path, key)
    folder = path / image.array
    _check_files(folder, path)
    _check_codecs(folder, path)
    array = zarr.open_array(store=str(folder), mode="r")
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    check_size(path, array.shape, array.dtype.itemsize, stored=stored, ratio=inf)
    if not image.axes:
        image = _plain(image.array, array.ndim, path)
    if len(image.axes) != array.ndim:
        raise FormatError(
            f"{path} names {len(image.axes)} axes of an array of {array.ndim}", hint="repair its metadata"
        )
    return image, array


def _find(path: Path, key: str | None) -> ZarrImage:
    """The image of a key below the folder; of None, the only one."""
    folder = path / _inside(key or ".", path)
    attributes = _attributes(folder)
    if isinstance(attributes.get("multiscales"), list) and attributes["multiscales"]:
        return _multiscale(attributes["multiscales"][0], _inside(key or ".", path), path)
    if _is_array(folder):
        return ZarrImage(_inside(key or ".", path), (), (), (), (), calibrated=False)
    entries = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    names = [entry.name for entry in entries if _is_array(entry) or _attributes(entry).get("multiscales")]
    wells = attributes.get("plate", {}).get("wells", []) if isinstance(attributes.get("plate"), dict) else []
    names += [f"{well['path']}/0" for well in wells if isinstance(well, dict) and "path" in well]
    if key is None and len(names) == 1:
        return _find(path, names[0])
    if not names:
        raise FormatError(
            f"{path} contains no OME image{f' {key}' if key else ''}",
            hint="pass the folder that holds .zattrs or zarr.json",
        )
    raise FormatError(
        f"{path} contains {len(names)} images: {listed(names)}", hint=f"choose one with --key, such as {names[0]}"
    )


def _multiscale(entry: Any, below: str, path: Path) -> ZarrImage:
    datasets = entry["datasets"]
    level = datasets[0]
    array = _inside(level["path"], path)
    described = entry.get("axes") or list(DEFAULT_AXES)
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in described]
    names = [str(axis["name"]).lower() for axis in axes]
    kinds = [str(axis.get("type") or KINDS.get(name, SPACE)).lower() for axis, name in zip(axes, names, strict=True)]
    scale, offset, calibrated = np.ones(len(axes)), np.zeros(len(axes)), False
    for transform in [*level.get("coordinateTransformations", []), *entry.get("coordinateTransformations", [])]:
        if transform.get("type") == "scale":
            factors = np.asarray(transform["scale"], float)
            scale, offset, calibrated = scale * factors, offset * factors, True
        elif transform.get("type") == "translation":
            offset = offset + np.asarray(transform["translation"], float)
    return ZarrImage(
        array=str(PurePosixPath(below) / array),
        axes=tuple(zip(names, kinds, strict=True)),
        scale=tuple(map(float, scale)),
        offset=tuple(map(float, offset)),
        units=tuple(length_unit(str(axis["unit"])) if axis.get("unit") else None for axis in axes),
        calibrated=calibrated,
    )


def _plain(array: str, axes: int, path: Path) -> ZarrImage:
    """An array without metadata: rows, columns, slices, and channels first, as in a .npy file."""
    if axes not in PLAIN_AXES:
        raise FormatError(f"{path} has {axes} axes and no OME metadata, expected 2 to 4", hint="add the metadata")
    kinds = tuple((name, KINDS.get(name, SPACE)) for name in PLAIN_AXES[axes])
    return ZarrImage(array, kinds, (1.0,) * axes, (0.0,) * axes, (None,) * axes, calibrated=False)


def _order(image: ZarrImage, shape: tuple[int, ...], path: Path) -> tuple[list[int], int]:
    """The axes that become rows, columns and slices (-1 without slices), and the number of times."""
    space = [axis for axis, (_, kind) in enumerate(image.axes) if kind == SPACE]
    other = [axis for axis, (_, kind) in enumerate(image.axes) if kind not in (SPACE, "channel", "time")]
    if len(space) not in (2, 3) or any(shape[axis] > 1 for axis in other):
        names = "".join(name for name, _ in image.axes)
        raise FormatError(
            f"{path} has axes {names} of shape {shape}, expected two or three of space, a channel and a time",
            hint="save each image on its own",
        )
    named = {image.axes[axis][0]: axis for axis in space}
    if set(named) <= set("zyx") and {"y", "x"} <= set(named):
        return [named["y"], named["x"], named.get("z", -1)], _size(image, shape, "time")
    return [*space[-2:], space[0] if len(space) == 3 else -1], _size(image, shape, "time")


def _volume(values: Array, places: list[int], image: ZarrImage, order: list[int]) -> Volume:
    """`places`: for each axis of the values its place among rows, columns, slices; -1 for channels and times."""
    spatial = [places.index(place) for place in range(3) if place in places]
    rest = [axis for axis, place in enumerate(places) if place == -1]
    array = values.transpose([*rest, *spatial])
    array = array.reshape(-1, *array.shape[len(rest) :])
    array = array if len(spatial) == 3 else array[..., None]
    units = [image.units[axis] or "mm" if axis >= 0 else "mm" for axis in order]
    size = [
        image.scale[axis] * MM_PER_UNIT[unit] if axis >= 0 else 1.0 for axis, unit in zip(order, units, strict=True)
    ]
    start = [
        image.offset[axis] * MM_PER_UNIT[unit] if axis >= 0 else 0.0 for axis, unit in zip(order, units, strict=True)
    ]
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = start
    return Volume(array, affine, units[0], calibrated=image.calibrated)


def _size(image: ZarrImage, shape: tuple[int, ...], kind: str) -> int:
    return int(np.prod([size for size, (_, this) in zip(shape, image.axes, strict=True) if this == kind], initial=1))


def _attributes(folder: Path) -> dict[str, Any]:
    """The attributes of a group, those of OME in Zarr 3 without their outer key; empty without any."""
    if (folder / "zarr.json").is_file():
        content = _json(folder / "zarr.json").get("attributes", {})
        return dict(content.get("ome", content)) if isinstance(content, dict) else {}
    return _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}


def _is_array(folder: Path) -> bool:
    three = folder / "zarr.json"
    return (folder / ".zarray").is_file() or (three.is_file() and _json(three).get("node_type") == "array")


def _json(path: Path) -> dict[str, Any]:
    with open_regular(path) as stream:
        content = parse_document(stream.read(LARGEST_METADATA))
    return content if isinstance(content, dict) else {}


def _inside(name: str, path: Path) -> str:
    """A path in metadata or a key, if it stays inside the folder."""
    parts = PurePosixPath(name.strip("/") or ".")
    if ".." in parts.parts or "\\" in name or "\0" in name or ":" in name:
        raise FormatError(f"{path} has no image {name!r}: it would lie outside", hint="pass a path inside the folder")
    return str(parts)


def _check_files(folder: Path, path: Path) -> None:
    """Chunks are regular files in the folder: no links that leave it, no pipes."""
    root = path.resolve()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = Path(parent, name)
            if entry.is_symlink() and not entry.resolve().is_relative_to(root):
                raise FormatError(f"{path} has a link that leaves it: {name}", hint="copy the file into the folder")
            if name in files and not stat.S_ISREG(entry.stat().st_mode):
                raise FormatError(f"{path} contains {name}, which is not a regular file", hint="remove it")


def _check_codecs(folder: Path, path: Path) -> None:
    two = folder / ".zarray"
    metadata = _json(two if two.is_file() else folder / "zarr.json")
    entries = [metadata.get("compressor"), *(metadata.get("filters") or []), *(metadata.get("codecs") or [])]
    for name in _codec_names([entry for entry in entries if entry is not None]):
        if name.removeprefix("numcodecs.") not in CODECS:
            raise FormatError(
                f"{path} is encoded with {name!r}, which is not read", hint="write it with one of blosc, zstd, gzip"
            )


def _codec_names(entries: list[Any]) -> Iterator[str]:
    """The names of codecs, and of those within them."""
    for entry in entries:
        yield str(entry.get("id", entry.get("name")))
        inner = entry.get("configuration")
        for nested in ("codecs", "index_codecs"):
            if isinstance(inner, dict):
                yield from _codec_names(inner.get(nested) or [])
