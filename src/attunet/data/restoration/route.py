"""The way back slab by slab: from some planes of the model grid to the rows of the original grid that they decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.data.orientation import Triple, oriented
from attunet.data.record import PreprocessingRecord
from attunet.data.resample import Resizing
from attunet.data.restoration.winning import SLAB_VOXELS, Codes, painted, strongest
from attunet.data.slabs import cores, each_slab
from attunet.data.volume import Array

__all__ = ["Band", "Planes", "Route", "bands_of"]

Floats = npt.NDArray[np.float32]


class Planes(NamedTuple):
    """Planes (C, n, band, columns) of the model grid in the axes of a route, and the index of the first."""

    first: int
    array: Floats

    @property
    def stop(self) -> int:
        """The index after the last."""
        return self.first + int(self.array.shape[1])


class Band(NamedTuple):
    """A part of both grids along the second axis of a route.

    Args: what it covers of the original grid, and of the content there; what is computed for that on the model grid;
        the part of this which no band before has computed.
    """

    across: slice
    targets: slice
    sources: slice
    own: slice

    @property
    def empty(self) -> bool:
        """Whether it lies beside the content."""
        return bool(self.targets.start == self.targets.stop)


@dataclass(frozen=True, eq=False)
class Route:
    """How the model grid is gone through plane by plane, and the original grid made of it.

    Args: the record; the model axes in another order: planes follow each other along the first.
    """

    record: PreprocessingRecord
    axes: Triple

    @cached_property
    def resizing(self) -> Resizing:
        """From the model grid to the content of the original, in the route's axes."""
        return Resizing.between(self.record.model_shape, self.record.cropped_shape).turned(self.axes)

    @cached_property
    def start(self) -> Triple:
        """Where the content begins on the original grid, in the route's axes."""
        i, j, k = (self.record.start[axis] for axis in self.axes)
        return i, j, k

    def content_shape(self, band: Band) -> tuple[int, int]:
        """Of one row of the content in a band."""
        return band.targets.stop - band.targets.start, self.resizing.new[2]

    def ready(self, planes: int) -> int:
        """How many rows of the content are decided by the first planes of the model grid."""
        return int(np.searchsorted(self.resizing.taps[0].index.max(axis=0), planes))

    def upright(self, array: Array) -> Array:
        """A view of an array (C, I, J, K) of the original grid in the route's axes."""
        turned = oriented(array, self.record.axes, self.record.flips)
        return turned.transpose(0, *(axis + 1 for axis in self.axes))

    def content(self, array: Array, band: Band) -> Array:
        """The same, of the content of a band only."""
        i, _, k = self.start
        rows, _, columns = self.resizing.new
        first = self.start[1]
        targets = slice(first + band.targets.start, first + band.targets.stop)
        return self.upright(array)[:, i : i + rows, targets, k : k + columns]

    def floats(self, planes: Planes, band: Band, rows: slice) -> Floats:
        """Rows of the content made of planes, linear: (C, rows, band, columns), the numbers that `restore` gives."""
        if rows.start == rows.stop:
            return np.empty((len(planes.array), 0, *self.content_shape(band)), np.float32)
        block, part = self._part(planes, band, rows)
        result = np.empty((len(block), *part.new), dtype=np.float32)

        def work(channels: slice) -> None:
            for target, channel in zip(result[channels], block[channels], strict=True):
                target[:] = part(channel)

        each_slab(work, len(block), -(-len(block) // cores()))
        return result

    def decide(
        self, planes: Planes, band: Band, rows: slice, *, regions: bool, write: Callable[[slice, Codes], None]
    ) -> None:
        """Pass on the strongest class of rows of the content, or the last region above one half, plus one.

        Args: what to do with rows of the content and their codes (rows, band, columns); called from several threads.
        """
        count = rows.stop - rows.start
        if not count:
            return
        block, part = self._part(planes, band, rows)

        def work(inner: slice) -> None:
            codes = painted(block, part, inner) if regions else strongest(block, part, inner)
            write(slice(rows.start + inner.start, rows.start + inner.stop), codes)

        each_slab(work, count, max(1, min(part.rows(SLAB_VOXELS), -(-count // cores()))))

    def _part(self, planes: Planes, band: Band, rows: slice) -> tuple[Floats, Resizing]:
        across = self.resizing.part(band.targets, axis=1, sources=band.sources)[1]
        sources, part = across.part(rows)
        return planes.array[:, sources.start - planes.first : sources.stop - planes.first], part


def bands_of(route: Route, count: int) -> list[Band]:
    """The original grid cut into so many bands (or as many as it has rows) of even width along the second axis.

    What a band needs of the model grid overlaps with its neighbours'; each model voxel is `own` to one band.
    """
    size, model = route.resizing.new[1], route.resizing.old[1]
    width = route.record.shape[route.record.axes[route.axes[1]]]
    edges = [round(edge) for edge in np.linspace(0, width, min(count, width) + 1)]
    bands: list[Band] = []
    known = 0
    for across in map(slice, edges, edges[1:]):
        low, high = (min(max(0, edge - route.start[1]), size) for edge in (across.start, across.stop))
        sources = own = slice(known, known)
        if low < high:
            reach = route.resizing.taps[1].reach(slice(low, high))
            stop = model if high == size else max(reach.stop, known)
            sources, own = slice(min(reach.start, known), stop), slice(known, stop)
            known = stop
        bands.append(Band(across, slice(low, high), sources, own))
    return bands
