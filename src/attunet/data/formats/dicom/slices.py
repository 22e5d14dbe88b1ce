"""Slices as DICOM files store them: where each lies in the patient, how its pixels are stored, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attunet.data.formats.dicom.elements import Vector
from attunet.data.geometry import Array

__all__ = ["MARKS", "PALETTE", "PixelLayout", "StoredSlice"]

PALETTE = "PALETTE COLOR"
"""The kind of pixels that are indexes into colours."""

MARKS = (
    "frame of reference",
    "b-value",
    "gradient direction",
    "echo",
    "temporal position",
    "echo time",
    "trigger time",
    "acquisition",
    "stack",
    "image type",
    "vendor's b-value",
    "dimensions",
)
"""What may tell images of the same place in one series from each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelLayout:
    """How the pixels of a file are stored.

    Args:
        syntax: UID of the transfer syntax.
        rows, columns: size of an image.
        samples: values of a pixel: 1 for grey, 3 for colours.
        photometric: PhotometricInterpretation.
        planar: whether the samples of an image are stored one after the other.
        allocated: bits of a stored value.
        stored: bits of it that are used.
        high: the highest of them, counted from 0.
        signed: whether values may be negative.
        frames: number of images in the file.
        overlays: whether bits that are not used hold overlays.
    """

    syntax: str
    rows: int
    columns: int
    samples: int
    photometric: str
    planar: bool
    allocated: int
    stored: int
    high: int
    signed: bool
    frames: int
    overlays: bool


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredSlice:
    """One image of a file.

    Args:
        path: the file.
        frame: its place in the file, from 0.
        layout: how it is stored.
        start: byte of the file, inflated if it is deflated, at which the element of its pixels begins.
        position: centre of its first pixel (x, y, z), mm to the left, back and head; None when the file does not say.
        orientation: directions of its rows and of its columns, six cosines; None when the file does not say.
        spacing: mm between its rows, and between its columns; None when the file does not say.
        thickness: SliceThickness in mm, which is trusted for a single slice only.
        slope, intercept: value = slope * stored value + intercept.
        rescale: whether the file says so; otherwise 1 and 0 are assumed.
        table: the table (Modality LUT) that gives the values instead: the stored value of its first entry, and its
            entries; None without one.
        padding: lowest and highest stored value of pixels that are no image; None without such pixels.
        inverted: whether low values are to be seen bright, and mean nothing else.
        instance: InstanceNumber.
        marks: what may tell it from other images of the same place, by the names of `MARKS`.
        tile: the part of the stored image that it is (first row, first column, rows, columns); None for all of it.
    """

    path: Path
    frame: int
    layout: PixelLayout
    start: int
    position: Vector | None
    orientation: Vector | None
    spacing: Vector | None
    thickness: float | None
    slope: float
    intercept: float
    rescale: bool
    table: tuple[int, Array] | None
    padding: tuple[int, int] | None
    inverted: bool
    instance: int | None
    marks: Mapping[str, tuple[str, ...]]
    tile: tuple[int, int, int, int] | None = None

    @property
    def channels(self) -> int:
        """1 for grey values, 3 for colours."""
        return 3 if self.layout.photometric == PALETTE else self.layout.samples

    @property
    def rows(self) -> int:
        """Number of its rows."""
        return self.layout.rows if self.tile is None else self.tile[2]

    @property
    def columns(self) -> int:
        """Number of its columns."""
        return self.layout.columns if self.tile is None else self.tile[3]

    @property
    def name(self) -> str:
        """What it is called in messages: its file, and its frame where there are several."""
        return f"frame {self.frame + 1} of {self.path.name}" if self.layout.frames > 1 else self.path.name
