"""The organs of one case, precomputed to score any number of maps: their voxels, boundary zones and surfaces."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from scipy.spatial import KDTree

from attunet.data.geometry import Voxel, reach_in_voxels, to_positions
from attunet.data.labels import Values
from attunet.data.orientation import bounding_box
from attunet.data.volume import Volume
from attunet.errors import ConfigError, GeometryError
from attunet.evaluation.overlap import Mask
from attunet.evaluation.scores import foreground

__all__ = ["REACH", "Box", "Organ", "Organs", "Points", "organs_of"]

Box = tuple[slice, slice, slice]
Points = npt.NDArray[np.float64]

REACH = 5.0
"""Width of an organ's boundary zone on each side of the boundary, mm."""


@dataclass(frozen=True, eq=False)
class Organ:
    """One organ, cut to a box a little larger than itself.

    Args:
        box: where the box lies in the map.
        mask: the organ's voxels that count, on the box.
        zone: the voxels that count within reach of the boundary, on the box. The boundary is the organ's voxels with a
            face neighbour outside it; the faces of the image and of ignored voxels are no boundary.
        voxel: its size in mm, array order, or its edges, see `attunet.data.geometry.Voxel`.
    """

    box: Box
    mask: Mask
    zone: Mask
    voxel: Voxel

    @cached_property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def zone_voxels(self) -> int:
        """Number of voxels in the boundary zone; 0 for an organ that fills the whole counted region."""
        return int(np.count_nonzero(self.zone))

    def distances(self, places: npt.NDArray[np.intp]) -> Points:
        """Distance (N,) in mm from voxels, given as indices (N, 3), to the nearest voxel of the organ; 0 inside."""
        result = np.zeros(len(places))
        local = places - self._start
        near = ((local >= 0) & (local < self.mask.shape)).all(axis=1)
        outside = np.ones(len(places), dtype=np.bool_)
        outside[near] = ~self.mask[tuple(local[near].T)]
        if outside.any():
            result[outside] = self._surface.query(to_positions(local[outside], self.voxel))[0]
        return result

    @property
    def _start(self) -> npt.NDArray[np.intp]:
        return np.array([part.start for part in self.box])

    @cached_property
    def _surface(self) -> KDTree:
        """The voxels next to the outside: the organ's voxel nearest to a point outside is always one of them.

        On a sheared grid, it may touch the outside by an edge or a corner only.
        """
        touching = None if isinstance(self.voxel, tuple) else np.ones((3, 3, 3), dtype=np.bool_)
        return KDTree(to_positions(np.argwhere(self.mask & binary_dilation(~self.mask, touching)), self.voxel))


@dataclass(frozen=True, eq=False)
class Organs:
    """The organs of one case on the grid of its maps.

    Args:
        organs: the organs by label; None for an organ without counted voxels.
        counted: which voxels count; None for all.
        shape: of the grid, (I, J, K).
    """

    organs: Mapping[str, Organ | None]
    counted: Mask | None
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, masks: Mapping[str, Mask], voxel: Voxel, *, ignored: Mask | None = None, reach: float = REACH) -> Self:
        """Prepare organs.

        Args:
            masks: boolean arrays (I, J, K) by label, all on the grid of the maps.
            voxel: its size in mm, array order, or its edges, see `attunet.data.geometry.Voxel`.
            ignored: voxels to leave out; None for none.
            reach: width of the boundary zone on each side of the boundary, mm.
        Returns: the organs.
        Raises: GeometryError when the shapes differ, ConfigError for a negative reach.
        """
        shapes = {mask.shape for mask in (*masks.values(), *(() if ignored is None else (ignored,)))}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3:
            raise GeometryError(
                f"organs of shapes {sorted(shapes)}", hint="give at least one organ, all on one 3-D grid"
            )
        if reach < 0:
            raise ConfigError(f"a boundary zone of {reach} mm", hint="give 0 mm or more")
        i, j, k = shapes.pop()
        counted = None if ignored is None or not ignored.any() else ~ignored
        return cls(
            {name: _prepare_organ(mask, voxel, counted, reach) for name, mask in masks.items()}, counted, (i, j, k)
        )


def organs_of(
    reference: Volume,
    labels: Mapping[str, Values],
    content: Box,
    *,
    ignore: int | None = None,
    annotated: Collection[str] | None = None,
    reach: float = REACH,
) -> Organs | None:
    """The organs of a reference within the content box, chosen as `attunet.evaluation.score_case` does.

    Args:
        reference: label values, one channel, on the grid of the attention volumes.
        labels: name to value, or to the values of a region; the background is left out.
        content: the box in which attention is defined; voxels outside it are not scored.
        ignore: label value whose voxels are left out.
        annotated: names of the labels that are annotated in this case; None for all.
        reach: width of the boundary zone on each side of the boundary, mm.
    Returns: the organs; None when no label is annotated.
    """
    array = reference.array[0][content]
    masks = {
        name: np.isin(array, value) if isinstance(value, tuple) else array == value
        for name, value in foreground(labels).items()
        if value != ignore and (annotated is None or name in annotated)
    }
    ignored = None if ignore is None else array == ignore
    return Organs.of(masks, reference.voxel, ignored=ignored, reach=reach) if masks else None


def _prepare_organ(mask: Mask, voxel: Voxel, counted: Mask | None, reach: float) -> Organ | None:
    organ = mask if counted is None else mask & counted
    tight = bounding_box(organ)
    if tight is None:
        return None
    i, j, k = (
        slice(max(0, part.start - margin - 1), min(size, part.stop + margin + 1))
        for part, size, margin in zip(tight, mask.shape, reach_in_voxels(voxel, reach), strict=True)
    )
    inside = organ[i, j, k]
    counts = np.ones_like(inside) if counted is None else counted[i, j, k]
    boundary = inside & binary_dilation(counts & ~inside)
    return Organ((i, j, k), inside, within(boundary, voxel, reach) & counts, voxel)


def within(mask: Mask, voxel: Voxel, reach: float) -> Mask:
    """The voxels within a distance of a mask, centre to centre.

    A distance transform, one axis after the other, limited to the reach: on a large organ many times faster than
    scipy's, which computes every distance.

    Args:
        mask: boolean (I, J, K).
        voxel: its size in mm, array order, or its edges, see `attunet.data.geometry.Voxel`.
        reach: distance in mm.
    Returns: boolean (I, J, K).
    """
    if not mask.any():
        return mask
    if isinstance(voxel, np.ndarray):
        places = np.argwhere(np.ones_like(mask))
        distances = KDTree(to_positions(np.argwhere(mask), voxel)).query(to_positions(places, voxel))[0]
        return np.asarray(distances <= reach * (1 + 1e-6)).reshape(mask.shape)
    # A small tolerance: 5 steps of 0.2 mm are within 1 mm whatever the rounding.
    limit = np.float32(reach**2 * (1 + 1e-6))
    squared = np.where(mask, np.float32(0), np.float32(np.inf))
    for axis, step in enumerate(voxel):
        source, target = (np.moveaxis(array, axis, 0) for array in (squared.copy(), squared))
        for offset in range(1, min(len(source), int(reach * (1 + 1e-6) / step) + 1)):
            cost = np.float32((offset * step) ** 2)
            np.minimum(target[offset:], source[:-offset] + cost, out=target[offset:])
            np.minimum(target[:-offset], source[offset:] + cost, out=target[:-offset])
    return np.asarray(squared <= limit)
