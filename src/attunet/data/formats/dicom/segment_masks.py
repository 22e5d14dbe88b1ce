"""The masks of segments on the grid of an image, or on their own: each frame lies where its position says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from attunet.data.formats.dicom.contours import Places
from attunet.data.formats.dicom.roi_masks import ON_GRID
from attunet.data.formats.dicom.segment_frames import Planes, SegmentFrames, parse_frames
from attunet.data.formats.dicom.segmentation import AGAIN, BINARY, FRACTIONAL, LABELMAP, Segmentation
from attunet.data.formats.limits import check_size
from attunet.data.geometry import TOLERANCE, Affine
from attunet.data.volume import Array, Volume
from attunet.errors import FormatError, GeometryError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["segment_masks"]

FARTHEST = 1e5
"""Largest extent in mm of what can lie in a patient."""
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
Grid = tuple[Affine, tuple[int, int, int]]
"""The affine of a grid, and its shape (I, J, K)."""


def segment_masks(
    segmentation: Segmentation, dataset: Dataset, names: Sequence[str], grid: Volume | None = None
) -> Iterator[Volume]:
    """Read segments, one after the other: one mask at a time is in memory.

    Args:
        segmentation: what the data set describes.
        dataset: with its pixels.
        names: those of the segments; segments of one name are united.
        grid: the segmented image; None: unknown.
    Returns: for each name a mask, on the grid of the image where all frames lie on it, otherwise on a grid of their
        own, which holds all frames and nothing else. Where there is no frame is background.
    Raises: FormatError when pixels are missing, GeometryError when frames are on no even
        grid.
    """
    described = parse_frames(dataset, segmentation)
    affine, shape = _grid_of(segmentation, described, grid)
    placed = _placed(segmentation, described, affine, shape)
    assert placed is not None
    if segmentation.kind == LABELMAP:
        label = _label(segmentation, dataset, placed, shape)
        for name in names:
            yield Volume(np.isin(label, segmentation.numbers_of(name)).astype(np.uint8)[None], affine)
        return
    for name in names:
        mask = np.zeros(shape, np.uint8, order="F")
        view = placed.view(mask)
        frames = np.flatnonzero(np.isin(described.numbers, segmentation.numbers_of(name)))
        for frame, pixels in zip(frames, _frames(segmentation, dataset, frames), strict=True):
            i, j, k = placed.origins[frame]
            view[i : i + segmentation.columns, j : j + segmentation.rows, k] |= pixels
        yield Volume(mask[None], affine)


class _Placed(NamedTuple):
    """Where frames lie on a grid.

    Args:
        axes: the axes of the grid along the columns, the rows and the normal of a frame.
        flipped: whether columns and rows run the other way.
        origins: (F, 3), the first pixel of each frame in `view`.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool]
    origins: Places

    def view(self, array: Array) -> Array:
        """An array of the grid with its axes along the columns, the rows and the normal of a frame."""
        steps = [slice(None, None, -1 if flip else 1) for flip in self.flipped]
        return array.transpose(self.axes)[steps[0], steps[1]]


def _grid_of(segmentation: Segmentation, frames: SegmentFrames, grid: Volume | None) -> Grid:
    """The grid of the image, where all frames lie on it, or that of the frames."""
    path, planes = segmentation.path, frames.planes
    frame = (segmentation.columns, segmentation.rows)
    if grid is not None and _placed(segmentation, frames, grid.affine, grid.spatial_shape) is not None:
        return grid.affine, grid.spatial_shape
    if planes is None:
        given = (
            "" if grid is None else f", and its frames of {frame} pixels are no single slice of {grid.spatial_shape}"
        )
        raise GeometryError(f"{path} does not say where its frames lie{given}", hint="convert it to a picture")
    affine, count = _even(planes, segmentation, frames.thickness)
    size = path.stat().st_size
    check_size(path, (*frame, count), 1, stored=size, ratio=np.inf)
    return affine, (*frame, count)


def _placed(
    segmentation: Segmentation, frames: SegmentFrames, affine: Affine, shape: tuple[int, int, int]
) -> _Placed | None:
    """Where all frames lie on a grid; None when one lies off it or leaves it."""
    size = np.array([segmentation.columns, segmentation.rows])
    if frames.planes is None:
        single = shape == (*size, 1)
        return _Placed((0, 1, 2), (False, False), np.zeros((len(frames.numbers), 3), np.intp)) if single else None
    voxels = np.linalg.inv(affine[:3, :3]) @ frames.planes
    voxels[:, :, 2] -= np.linalg.inv(affine[:3, :3]) @ affine[:3, 3]
    exact = np.rint(voxels)
    steps = exact[0, :, :2]
    single_axis = (np.abs(steps).sum(axis=0) == 1).all() and (np.abs(steps).sum(axis=1) <= 1).all()
    if not single_axis or (exact[:, :, :2] != steps).any():
        return None
    corners = np.array([[0, size[0] - 1, 0], [0, 0, size[1] - 1], [1, 1, 1]], np.float64)
    ends = exact @ corners
    limits = np.array(shape)[:, None]
    if (np.abs((voxels - exact) @ corners) > ON_GRID).any() or (ends < 0).any() or (ends >= limits).any():
        return None
    columns, rows = np.abs(steps).argmax(axis=0).tolist()
    axes = (columns, rows, 3 - columns - rows)
    flipped = (bool(steps[columns, 0] < 0), bool(steps[rows, 1] < 0))
    origins = exact[:, axes, 2].astype(np.intp)
    for axis, flip in enumerate(flipped):
        origins[:, axis] = shape[axes[axis]] - 1 - origins[:, axis] if flip else origins[:, axis]
    return _Placed(axes, flipped, origins)


def _even(planes: Planes, segmentation: Segmentation, thickness: float) -> tuple[Affine, int]:
    """The affine of the frames' own grid, whose step is the smallest distance of two of them; and its slices.

    Raises: GeometryError when they are on no even grid.
    """
    first = planes[0]
    normal = np.cross(first[:, 0], first[:, 1])
    normal /= np.linalg.norm(normal)
    order = np.argsort(planes[:, :, 2] @ normal)
    origins = planes[order, :, 2]
    depths = origins @ normal
    gaps = np.diff(depths)
    apart = gaps[gaps > TOLERANCE * float(np.linalg.norm(first[:, :2], axis=0).min())]
    step = float(apart.min()) if apart.size else thickness
    levels = np.rint((depths - depths[0]) / step)
    advance = (origins[-1] - origins[0]) / levels[-1] if levels[-1] else normal * step
    even = origins[0] + levels[:, None] * advance
    off = np.linalg.norm(origins - even, axis=1).max()
    turned = np.abs(planes[:, :, :2] - first[:, :2]).max() * max(segmentation.columns, segmentation.rows)
    if max(off, turned) > TOLERANCE * step or (levels.max() + 1) * step > FARTHEST:
        raise GeometryError(
            f"the frames of {segmentation.path} lie on no even grid: {max(off, turned):.2f} mm off at steps of "
            f"{step:.2f} mm",
            hint="give the images that it was made from, or convert it on the grid of these images",
        )
    affine = np.eye(4)
    affine[:3] = np.stack([first[:, 0], first[:, 1], advance, origins[0]], axis=1)
    return affine, int(levels.max()) + 1


def _label(segmentation: Segmentation, dataset: Dataset, placed: _Placed, shape: tuple[int, int, int]) -> Array:
    """A label map, (I, J, K). Raises: FormatError for a value without a segment."""
    label = np.full(shape, segmentation.background, np.uint16, order="F")
    view = placed.view(label)
    known = np.zeros(2**16, np.bool_)
    known[[segmentation.background, *(segment.number for segment in segmentation.segments)]] = True
    frames = np.arange(len(placed.origins))
    for frame, pixels in zip(frames, _frames(segmentation, dataset, frames), strict=True):
        if not (named := known[pixels]).all():
            value = int(pixels[~named][0])
            raise FormatError(
                f"{segmentation.path} has pixels of a segment {value}, which it does not name", hint=AGAIN
            )
        i, j, k = placed.origins[frame]
        view[i : i + segmentation.columns, j : j + segmentation.rows, k] = pixels
    return label


def _frames(segmentation: Segmentation, dataset: Dataset, frames: Sequence[int] | Places) -> Iterator[Array]:
    """The pixels (columns, rows) of some frames: 0 and 1, or the values of a label map."""
    from pydicom.pixels.utils import iter_pixels

    columns, rows = segmentation.columns, segmentation.rows
    if not len(frames):
        return
    if segmentation.kind == BINARY and dataset.file_meta.get("TransferSyntaxUID") in UNCOMPRESSED:
        stored = np.frombuffer(dataset.PixelData, np.uint8)
        if stored.size * 8 < (max(frames) + 1) * columns * rows:
            raise FormatError(f"{segmentation.path} is truncated: pixels are missing", hint="copy it again")
        for frame in frames:
            first, last = frame * columns * rows, (frame + 1) * columns * rows
            bits = np.unpackbits(stored[first // 8 : -(-last // 8)], bitorder="little")
            yield bits[first % 8 :][: columns * rows].reshape(rows, columns).T
        return
    check_size(segmentation.path, (columns, rows), 2, stored=segmentation.path.stat().st_size, ratio=np.inf)
    for pixels in iter_pixels(dataset, indices=[int(frame) for frame in frames], raw=True):
        values = np.asarray(pixels).reshape(rows, columns).T
        if segmentation.kind == FRACTIONAL:
            values = (values.astype(np.int64) * 2 >= segmentation.maximum).astype(np.uint8)
        yield values
