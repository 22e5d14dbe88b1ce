"""The inverse of `prepare`: the preprocessing record, and the inverse transform to the original grid, slab by slab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.config import Preprocessing
from attunet.data.argmax_resample import SLAB_VOXELS, ClassIndices, resample_argmax, resample_regions
from attunet.data.orientation import Flips, Triple, oriented, reorientation
from attunet.data.resample import Resizing
from attunet.data.slabs import cores, each_slab
from attunet.data.volume import Affine, Array
from attunet.errors import LabelError

__all__ = [
    "Band",
    "Box",
    "InverseTransform",
    "Planes",
    "PreprocessingRecord",
    "blank_mask",
    "model_affine",
    "smallest_integer",
    "split_bands",
]

Box = tuple[slice, slice, slice]
Floats = npt.NDArray[np.float32]

_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)


@dataclass(frozen=True, eq=False)
class PreprocessingRecord:
    """How a volume was preprocessed, so that its label can be preprocessed alike and its masks restored.

    Args:
        affine: of the original grid.
        shape: of the original grid.
        axes: the original axis that each model axis was taken from.
        flips: whether each model axis runs against its original axis.
        start: first voxel of the content box in canonical axes, slice axis last.
        cropped_shape: of the content box.
        model_shape: (I, J, K) after resampling.
        preprocessing: the settings that were applied.
    """

    affine: Affine
    shape: Triple
    axes: Triple
    flips: Flips
    start: Triple
    cropped_shape: Triple
    model_shape: Triple
    preprocessing: Preprocessing

    @property
    def box(self) -> Box:
        """The content box, as slices of the canonical grid."""
        i, j, k = (slice(low, low + size) for low, size in zip(self.start, self.cropped_shape, strict=True))
        return i, j, k

    @property
    def content(self) -> Box:
        """The same box, as slices of the original grid."""
        parts = [slice(0, 0)] * 3
        for axis, flip, part in zip(self.axes, self.flips, self.box, strict=True):
            size = self.shape[axis]
            parts[axis] = slice(size - part.stop, size - part.start) if flip else part
        i, j, k = parts
        return i, j, k


class Planes(NamedTuple):
    """Planes (C, n, band, columns) of the model grid, in the axes of an `InverseTransform`; index of the first."""

    first: int
    array: Floats

    @property
    def stop(self) -> int:
        """The index after the last."""
        return self.first + int(self.array.shape[1])


class Band(NamedTuple):
    """A part of both grids along the second axis of an `InverseTransform`.

    Args:
        across: its part of the original grid.
        targets: its part of the content.
        sources: the part of the model grid that it needs.
        own: the part of `sources` that no earlier band has computed.
    """

    across: slice
    targets: slice
    sources: slice
    own: slice

    @property
    def empty(self) -> bool:
        """Whether it lies outside the content."""
        return bool(self.targets.start == self.targets.stop)


@dataclass(frozen=True, eq=False)
class InverseTransform:
    """The transform from planes of the model grid, one after the other, to the original grid.

    Args:
        record: of the preprocessing.
        axes: the model axes in another order: planes follow each other along the first.
    """

    record: PreprocessingRecord
    axes: Triple

    @cached_property
    def resizing(self) -> Resizing:
        """The resizing from the model grid to the content of the original grid, in the order of `axes`."""
        return Resizing.between(self.record.model_shape, self.record.cropped_shape).permuted(self.axes)

    @cached_property
    def start(self) -> Triple:
        """The start of the content on the original grid, in the order of `axes`."""
        i, j, k = (self.record.start[axis] for axis in self.axes)
        return i, j, k

    def content_shape(self, band: Band) -> tuple[int, int]:
        """The shape of one row of the content in a band."""
        return band.targets.stop - band.targets.start, self.resizing.new[2]

    def finished_rows(self, planes: int) -> int:
        """The number of rows of the content that the first planes of the model grid determine."""
        return int(np.searchsorted(self.resizing.interpolation[0].index.max(axis=0), planes))

    def transposed(self, array: Array) -> Array:
        """A view of an array (C, I, J, K) of the original grid in the order of `axes`."""
        reoriented = oriented(array, self.record.axes, self.record.flips)
        return reoriented.transpose(0, *(axis + 1 for axis in self.axes))

    def content(self, array: Array, band: Band) -> Array:
        """The same view, restricted to the content of a band."""
        i, _, k = self.start
        rows, _, columns = self.resizing.new
        first = self.start[1]
        targets = slice(first + band.targets.start, first + band.targets.stop)
        return self.transposed(array)[:, i : i + rows, targets, k : k + columns]

    def interpolate(self, planes: Planes, band: Band, rows: slice) -> Floats:
        """Rows of the content, interpolated linearly.

        Args:
            planes: the planes that determine the rows.
            band: of the planes.
            rows: of the content.
        Returns: (C, rows, band, columns); the numbers do not depend on how planes and bands are cut.
        """
        if rows.start == rows.stop:
            return np.empty((len(planes.array), 0, *self.content_shape(band)), np.float32)
        block, part = self._part(planes, band, rows)
        result = np.empty((len(block), *part.new), dtype=np.float32)

        def work(channels: slice) -> None:
            for target, channel in zip(result[channels], block[channels], strict=True):
                target[:] = part(channel)

        each_slab(work, len(block), -(-len(block) // cores()))
        return result

    def argmax(
        self,
        planes: Planes,
        band: Band,
        rows: slice,
        *,
        regions: bool,
        write: Callable[[Box, ClassIndices], None],
        across: tuple[slice, slice] | None = None,
    ) -> None:
        """Label rows of the content: the most probable class, or 1 + the last region above one half.

        Args:
            planes: probabilities that determine the rows.
            band: of the planes.
            rows: of the content.
            regions: whether the channels are overlapping regions.
            write: called with a part of the content of the band and its class indices, from several threads.
            across: the part of the planes, along their second and third axis, outside which everything is background;
                background alone is not written. None for all of them.
        """
        count = rows.stop - rows.start
        j, k = self._targets(band, across)
        if not count or j.start >= j.stop or k.start >= k.stop:
            return
        block, part = self._part(planes, band, rows)
        if across is not None:
            near, part = part.part(slice(j.start - band.targets.start, j.stop - band.targets.start), axis=1)
            far, part = part.part(k, axis=2)
            block = block[:, :, near, far]

        def work(inner: slice) -> None:
            classes = resample_regions(block, part, inner) if regions else resample_argmax(block, part, inner)
            written = slice(rows.start + inner.start, rows.start + inner.stop)
            write((written, slice(j.start - band.targets.start, j.stop - band.targets.start), k), classes)

        each_slab(work, count, max(1, min(part.rows(SLAB_VOXELS), -(-count // cores()))))

    def _targets(self, band: Band, across: tuple[slice, slice] | None) -> tuple[slice, slice]:
        """The part of the content, along its second and third axis, that a part of the planes of a band can change."""
        if across is None:
            return band.targets, slice(0, self.resizing.new[2])
        near, far = across
        _, second, third = self.resizing.interpolation
        changed = second.targets(slice(band.sources.start + near.start, band.sources.start + near.stop))
        low, high = max(changed.start, band.targets.start), min(changed.stop, band.targets.stop)
        return slice(low, high), third.targets(far)

    def _part(self, planes: Planes, band: Band, rows: slice) -> tuple[Floats, Resizing]:
        across = self.resizing.part(band.targets, axis=1, sources=band.sources)[1]
        sources, part = across.part(rows)
        return planes.array[:, sources.start - planes.first : sources.stop - planes.first], part


def split_bands(inverse: InverseTransform, count: int) -> list[Band]:
    """The original grid cut into bands (at most as many as it has rows) of even width along the second axis.

    The parts of the model grid that two neighbouring bands need overlap; each model voxel is `own` to one band.
    """
    size, model = inverse.resizing.new[1], inverse.resizing.old[1]
    width = inverse.record.shape[inverse.record.axes[inverse.axes[1]]]
    edges = [round(edge) for edge in np.linspace(0, width, min(count, width) + 1)]
    bands: list[Band] = []
    known = 0
    for across in map(slice, edges, edges[1:]):
        low, high = (min(max(0, edge - inverse.start[1]), size) for edge in (across.start, across.stop))
        sources = own = slice(known, known)
        if low < high:
            reach = inverse.resizing.interpolation[1].reach(slice(low, high))
            stop = model if high == size else max(reach.stop, known)
            sources, own = slice(min(reach.start, known), stop), slice(known, stop)
            known = stop
        bands.append(Band(across, slice(low, high), sources, own))
    return bands


def model_affine(record: PreprocessingRecord) -> Affine:
    """The affine of the model grid: model voxel indices to RAS+ millimetres."""
    scale = np.divide(record.cropped_shape, record.model_shape)
    resampling = np.diag([*scale, 1.0])
    # Half-pixel centres: the grids share their outer faces, not their first voxel centres.
    resampling[:3, 3] = scale / 2 - 0.5 + record.start
    return np.asarray(record.affine @ reorientation(record.axes, record.flips, record.shape) @ resampling)


def blank_mask(record: PreprocessingRecord, values: Sequence[int]) -> Array:
    """A mask (1, I, J, K) of background, values[0], on the original grid; the smallest integer type that fits."""
    result: Array = np.zeros((1, *record.shape), dtype=smallest_integer(values))
    if values[0]:  # else the pages of fresh zeros come with the slabs that are written, on every core
        result[:] = values[0]
    return result


def smallest_integer(values: Sequence[int]) -> type[np.integer[Any]]:
    """The dtype of masks that hold these values. Raises: LabelError when no integer does."""
    for kind in _INTEGERS:
        if np.iinfo(kind).min <= min(values) and max(values) <= np.iinfo(kind).max:
            return kind
    raise LabelError(f"label values {min(values)} to {max(values)} do not fit into 64 bits")
