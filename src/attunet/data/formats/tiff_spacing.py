"""The spacing of a TIFF file: what OME-XML or ImageJ declare is used; a printer's resolution is only reported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from attunet.data.dataset import Problem
from attunet.data.formats.appearance import notice
from attunet.data.geometry import MM_PER_UNIT, Spacing, length_unit

__all__ = ["FileSpacing", "ome_metadata", "read_spacing"]

OME_SIZES = ("PhysicalSizeY", "PhysicalSizeX", "PhysicalSizeZ")
OME_UNIT = "µm"  # the default of the OME schema
RESOLUTION_UNITS = {2: "in", 3: "cm"}
PRINTER_DPI = {72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350, 360, 400, 600, 720, 1200, 2400}
CHECK = "nothing if this is right; otherwise correct the spacing in the file's metadata"
CONVERT = "if this is the size of a voxel, save the image as OME-TIFF or NIfTI with its spacing"
Size = tuple[float, str]


@dataclass(frozen=True)
class FileSpacing:
    """What a file says about its spacing.

    Args:
        spacing: mm along rows, columns and slices; None where the file says nothing that can be used.
        notices: what was assumed or is not used.
        unit: in which the file declares it, a key of `MM_PER_UNIT`.
    """

    spacing: Spacing | None = None
    notices: tuple[Problem, ...] = ()
    unit: str = "mm"


def read_spacing(file: tifffile.TiffFile, path: Path, *, stack: bool) -> FileSpacing:
    """Read the spacing of an open file.

    Args:
        file: the file.
        path: its path, for messages.
        stack: whether the image has several slices, whose distance matters.
    Returns: the spacing, and what was assumed.
    """
    if file.is_ome:
        sizes, source = _ome_sizes(file.ome_metadata or ""), "OME"
    elif file.is_imagej:
        sizes, source = _imagej_sizes(file, file.imagej_metadata or {}), "ImageJ"
    else:
        return FileSpacing(notices=_resolution(file, path))
    in_mm = [None if size is None else _millimetres(*size) for size in sizes]
    rows, columns, slices = in_mm
    if rows is None or columns is None:
        given = ", ".join(f"{number:g} {unit}" for number, unit in filter(None, sizes[:2]))
        message = f"{path.name}: its {source} metadata gives the pixel size {given}: voxels of 1 mm are assumed"
        unusable = notice("spacing", message, CHECK)
        return FileSpacing(notices=(unusable,) if given else ())
    unit = length_unit(sizes[0][1] if sizes[0] else "") or "mm"
    if slices is None:
        return FileSpacing(*_assumed(rows, columns, path, source, stack=stack), unit)
    return FileSpacing((rows, columns, slices), unit=unit)


def ome_metadata(spacing: Spacing, unit: str) -> dict[str, Any]:
    """Tifffile's metadata of an OME-TIFF file with this spacing, mm along rows, columns and slices, in a unit."""
    sizes = (float(f"{size / MM_PER_UNIT[unit]:.9g}") for size in spacing)
    return {**dict(zip(OME_SIZES, sizes, strict=True)), **{f"{name}Unit": unit for name in OME_SIZES}}


def _assumed(
    rows: float, columns: float, path: Path, source: str, *, stack: bool
) -> tuple[Spacing, tuple[Problem, ...]]:
    """The spacing of a file that gives only a pixel's size: slices as far apart as columns, said where it matters."""
    if not stack:
        return (rows, columns, 1.0), ()
    message = (
        f"{path.name}: its {source} metadata gives no distance of slices: that of columns is taken, {columns:g} mm"
    )
    return (rows, columns, columns), (notice("spacing", message, CHECK),)


def _millimetres(number: float, unit: str) -> float | None:
    known = length_unit(unit)
    return number * MM_PER_UNIT[known] if known and math.isfinite(number) and number > 0 else None


def _ome_sizes(xml: str) -> list[Size | None]:
    """Size and unit along rows, columns and slices of the first image of an OME-XML document."""
    pixels = ElementTree.fromstring(xml.encode()).find("{*}Image/{*}Pixels")
    attributes: Mapping[str, str] = {} if pixels is None else pixels.attrib
    return [
        (_number(attributes[name]), attributes.get(f"{name}Unit", OME_UNIT)) if name in attributes else None
        for name in OME_SIZES
    ]


def _number(text: Any) -> float:
    """A number in metadata; NaN for anything else, which is then reported as unusable."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _imagej_sizes(file: tifffile.TiffFile, metadata: Mapping[str, Any]) -> list[Size | None]:
    """Size and unit along rows, columns and slices; ImageJ keeps pixels per unit in the resolution tags."""
    unit = _unescaped(str(metadata.get("unit", "")))
    if length_unit(unit) is None:
        return [None, None, None]
    columns, rows = _resolutions(file)
    depth = metadata.get("spacing")
    return [
        None if rows is None else (1 / rows, _unescaped(str(metadata.get("yunit", unit)))),
        None if columns is None else (1 / columns, unit),
        None if depth is None else (abs(_number(depth)), _unescaped(str(metadata.get("zunit", unit)))),
    ]


def _unescaped(text: str) -> str:
    """ImageJ writes the micro sign as an escape."""
    return text.replace("\\u00B5", "µ").replace("\\u00b5", "µ")


def _resolutions(file: tifffile.TiffFile) -> tuple[float | None, float | None]:
    """Pixels per unit along columns and rows; None where the tag is missing or zero."""
    tags = file.pages.first.tags
    pairs = (tags.valueof(name) for name in ("XResolution", "YResolution"))
    columns, rows = (pair[0] / pair[1] if pair is not None and pair[0] and pair[1] else None for pair in pairs)
    return columns, rows


def _resolution(file: tifffile.TiffFile, path: Path) -> tuple[Problem, ...]:
    """What the resolution tags say, unless it is a usual resolution of printers and screens."""
    unit = RESOLUTION_UNITS.get(int(file.pages.first.tags.valueof("ResolutionUnit", default=0)))
    columns, rows = _resolutions(file)
    if unit is None or columns is None or rows is None:
        return ()
    per_inch = columns * MM_PER_UNIT["in"] / MM_PER_UNIT[unit]
    if round(per_inch) in PRINTER_DPI:
        return ()
    sizes = " x ".join(f"{MM_PER_UNIT[unit] / number:.4g}" for number in (rows, columns))
    message = f"{path.name}: its resolution tags give pixels of {sizes} mm; not used, voxels of 1 mm are assumed"
    return (notice("spacing", message, CONVERT),)
