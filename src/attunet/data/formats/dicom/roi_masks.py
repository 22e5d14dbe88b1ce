"""The mask of an ROI on the grid of an image: its contours filled slice by slice, holes and islands included.

A voxel is inside when its centre is. Contours count on the slice in whose plane they lie; one between two slices is
refused, because its voxels would be a guess. Coordinates are rounded to a thousandth of a voxel, and centres on an edge
are decided in the directions of the patient: neither rounding in the file nor the storage order of the image matters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from attunet.data.formats.dicom.contours import Contour, Mask, Places, fill_contours
from attunet.data.formats.dicom.structure_set import RegionOfInterest
from attunet.data.geometry import TOLERANCE
from attunet.data.volume import Array, Volume
from attunet.errors import GeometryError

__all__ = ["ON_GRID", "RoiMask", "roi_mask"]

DECIMALS = 3
ON_GRID = 1.25 * TOLERANCE
"""Voxels off the grid that are on it: slices may be `TOLERANCE` off theirs, and files round positions."""
NESTED = 0.95
"""A contour of which at least this share lies in another is a hole in it; one that only crosses it is a part."""
SAME_IMAGE = "give the images that the contours were drawn on, or the label in another format"


class RoiMask(NamedTuple):
    """The voxels of an ROI.

    Args:
        mask: (I, J, K).
        notices: what was left out, united or is odd.
    """

    mask: Mask
    notices: tuple[str, ...]


def roi_mask(region: RegionOfInterest, grid: Volume) -> RoiMask:
    """Fill the contours of an ROI on the grid of an image.

    Args:
        region: the ROI.
        grid: the image, or any volume on its grid; its values do not matter.
    Returns: its voxels. A contour in another is a hole, one in a hole an island; contours that cross are united.
    Raises: GeometryError when contours are not parallel to slices, or lie between them, or all outside the image.
    """
    contours, axis = _in_voxels(region, grid)
    shape = grid.spatial_shape
    depths = np.array([contour[:, axis].mean() for contour in contours])
    slices = np.rint(depths).astype(np.intp)
    _check_on_slices(region, depths, grid.spacing[axis])
    used = (slices >= 0) & (slices < shape[axis])
    if not used.any():
        raise GeometryError(f"the ROI {region.name} lies outside the image", hint=SAME_IMAGE)
    frame = _Frame.of(grid, axis)
    by_slice: dict[int, list[Contour]] = defaultdict(list)
    for contour, number, inside in zip(contours, slices.tolist(), used, strict=True):
        if inside:
            by_slice[number].append(frame.to_frame(contour))
    whole = np.zeros(shape, np.bool_, order="F")
    odd: Counter[str] = Counter()
    for number, found in by_slice.items():
        filled = fill_contours(found, frame.shape) if region.exclusive else _combined(found, frame.shape, odd)
        np.moveaxis(whole, axis, 0)[number] = frame.from_frame(filled)
    return RoiMask(whole, tuple(_notices(region, slices, used, frame, by_slice, odd)))


class _Frame(NamedTuple):
    """The plane of a slice in the directions of the patient: to the left, then to the back, then to the head.

    Args:
        axes: the axes of the grid that span it, in this order.
        flipped: whether each of them runs the other way.
        shape: the pixels along each.
    """

    axes: tuple[int, int]
    flipped: tuple[bool, bool]
    shape: tuple[int, int]

    @classmethod
    def of(cls, grid: Volume, axis: int) -> _Frame:
        """The frame of the slices along an axis."""
        codes = grid.orientation
        one, other = sorted({0, 1, 2} - {axis}, key=lambda each: "RLAPIS".index(codes[each]))
        shape = grid.spatial_shape
        return cls((one, other), (codes[one] in "RAI", codes[other] in "RAI"), (shape[one], shape[other]))

    def to_frame(self, contour: Contour) -> Contour:
        """A contour (N, 3) in voxels of the grid as one (N, 2) in pixels of the slice."""
        flat = np.round(contour[:, self.axes], DECIMALS)
        return np.where(self.flipped, np.array(self.shape) - 1 - flat, flat)

    def from_frame(self, mask: Mask) -> Mask:
        """The pixels of a slice in the order of the grid."""
        across, down = (slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return mask[across, down] if self.axes[0] < self.axes[1] else mask[across, down].T


def _in_voxels(region: RegionOfInterest, grid: Volume) -> tuple[list[Contour], int]:
    """The contours in voxels, and the axis of the grid across which they lie.

    Raises: GeometryError when they lie across none.
    """
    lengths = np.array([len(contour) for contour in region.contours])
    inverse = np.linalg.inv(grid.affine)
    points = np.concatenate(region.contours) @ inverse[:3, :3].T + inverse[:3, 3]
    starts = np.cumsum(lengths) - lengths
    spread = np.maximum.reduceat(points, starts) - np.minimum.reduceat(points, starts)
    axis = int(np.argmin(spread.max(axis=0)))
    if (tilted := np.count_nonzero(spread[:, axis] > ON_GRID)) > 0:
        raise GeometryError(
            f"{tilted} of {len(lengths)} contours of the ROI {region.name} are not parallel to slices of the image: "
            f"they cross up to {spread[:, axis].max():.1f} slices",
            hint=SAME_IMAGE,
        )
    return np.split(points, starts[1:]), axis


def _check_on_slices(region: RegionOfInterest, depths: Array, step: float) -> None:
    """Raises: GeometryError when contours lie between slices."""
    off = np.abs(depths - np.rint(depths))
    if (between := np.count_nonzero(off > ON_GRID)) > 0:
        raise GeometryError(
            f"{between} of {len(depths)} contours of the ROI {region.name} lie between slices of the image, up to "
            f"{off.max() * step:.2f} mm from the nearest, whose neighbours are {step:.2f} mm away",
            hint=SAME_IMAGE,
        )


def _combined(contours: Sequence[Contour], shape: tuple[int, int], odd: Counter[str]) -> Mask:
    """The pixels of contours on one slice, from the largest to the smallest: parts, holes, islands in holes.

    Args:
        contours: in pixels.
        shape: of the slice.
        odd: counts contours that repeat another or hold no centre of a pixel, and slices on which contours cross.
    """
    if len(contours) == 1:
        whole = fill_contours(contours, shape)
        odd["empty"] += not whole.any()
        return whole
    whole = np.zeros(shape, np.bool_)
    seen: set[bytes] = set()
    crossed = False
    for contour in sorted(contours, key=_area, reverse=True):
        filled = fill_contours([contour], shape)
        size = int(np.count_nonzero(filled))
        repeats = (key := np.packbits(filled).tobytes()) in seen
        seen.add(key)
        odd["empty"] += not size
        odd["repeated"] += bool(size and repeats)
        if not size or repeats:
            continue
        shared = int(np.count_nonzero(whole & filled))
        crossed = crossed or bool(0 < shared < size)
        whole = whole & ~filled if shared >= NESTED * size else whole | filled
    odd["crossed"] += crossed
    return whole


def _area(contour: Contour) -> float:
    """Pixels enclosed by a contour that does not cross itself (the shoelace formula)."""
    x, y = contour.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _notices(
    region: RegionOfInterest,
    slices: Places,
    used: Mask,
    frame: _Frame,
    drawn: dict[int, list[Contour]],
    odd: Counter[str],
) -> Iterator[str]:
    """What the owner of a mask should know about its contours."""
    name, count = region.name, len(region.contours)
    if outside := np.count_nonzero(~used):
        yield f"{outside} of {count} contours of the ROI {name} lie outside the image and are left out"
    ends = np.array(frame.shape) - 0.5
    beyond = sum(((c < -0.5) | (c > ends)).any() for found in drawn.values() for c in found)
    if beyond:
        yield f"{beyond} of {count} contours of the ROI {name} leave the image; what lies outside is left out"
    if gaps := int(np.ptp(slices)) + 1 - len(np.unique(slices)):
        yield f"the ROI {name} has no contour on {gaps} of the {int(np.ptp(slices)) + 1} slices that it spans"
    if odd["crossed"]:
        yield f"contours of the ROI {name} cross each other on {odd['crossed']} slices; they are united"
    if odd["repeated"]:
        yield f"{odd['repeated']} of {count} contours of the ROI {name} repeat another one and are left out"
    if odd["empty"]:
        yield f"{odd['empty']} of {count} contours of the ROI {name} hold no centre of a voxel"
