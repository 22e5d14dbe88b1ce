"""`Member`: one trained run inside a segmenter, and its probabilities for a case, slab by slab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from attunet.bundle import Skipping
from attunet.config import Plan
from attunet.data.coarse_map import CoarseMap
from attunet.data.preprocess import Prepared
from attunet.data.restore import Band, InverseTransform, Planes, split_bands
from attunet.data.slabs import cores, each_slab
from attunet.gates import LOCALIZER_MAP
from attunet.inference.engines.protocol import Engine
from attunet.inference.outputs import activate
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.blending import Blending
from attunet.inference.windows.sliding_window import FILLED_BATCHES, LOGITS, FinishedPlanes, sliding_window
from attunet.inference.windows.tiling import Tiling

__all__ = ["Chunking", "Member", "MemberCase", "Slab"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Member:
    """A plan and the engines of its folds, whose probabilities are averaged on the model grid.

    Args:
        name: name of the run in an ensemble.
        plan: plan of the run.
        engines: one engine per fold.
        temperature: divides the logits; 1 when nothing was calibrated.
        air: height above the minimum of the preprocessed image that a window must exceed to be run; None runs all
            windows.
        localizers: of a cascade: the engines of the localizers of each fold.
        skipping: of a cascade: for each fold, which windows its localizers allow to skip; None without an audit.
        bias: added to the logits of each output, before the temperature divides them; empty for none.
        revise: changes the context before the engines see it, to test what they do with it.
    """

    name: str
    plan: Plan
    engines: tuple[Engine, ...]
    temperature: float = 1.0
    air: float | None = None
    localizers: tuple[tuple[Engine, ...], ...] = ()
    skipping: tuple[Skipping | None, ...] = ()
    bias: tuple[float, ...] = ()
    revise: Callable[[CoarseMap], CoarseMap] = lambda context: context


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """How a case is divided: this affects time and memory, never the result.

    Args:
        bands: number of bands perpendicular to the sliding direction; each runs all windows that touch it.
        planes: planes of the model grid that are passed on at once; None for all finished ones.
        fill: least number of batches of windows between two slabs.
        rows: rows of the original grid for which all classes are in memory at once.
    """

    bands: int = 1
    planes: int | None = None
    fill: int = FILLED_BATCHES
    rows: int = 8


@dataclass(frozen=True)
class Slab:
    """Finished planes of a member; the last one of a slab is also the first of the next, for interpolation.

    Args:
        probabilities: (outputs, planes, band, columns), valid until the next slab is requested.
        attention: by gate, (maps, planes, band, columns), with the same validity.
        known: number of planes that were already in the previous slab.
        across: the part of the planes, along their second and third axis, outside which everything is background.
    """

    probabilities: Planes
    attention: dict[str, Planes]
    known: int
    across: tuple[slice, slice]

    def fresh(self, band: slice) -> Floats:
        """The probabilities of a band of the planes that were not in the previous slab, background left out."""
        near, far = self.across
        near = slice(max(near.start, band.start), max(near.start, min(near.stop, band.stop)))
        return self.probabilities.array[:, self.known :, near, far]


@dataclass(frozen=True, kw_only=True)
class MemberCase:
    """A case preprocessed for a member, and the windows to run.

    Args:
        member: the member.
        prepared: its input, and the preprocessing record.
        tiling: the windows.
        prefix: prefix of the names of its gates.
        contexts: of a cascade: the map of each fold's localizers that its engine sees.
        found: of a cascade: the probability of any label that its localizers find, the first map of attention.
        air_windows: number of windows that are skipped because they contain only air.
        skipped_windows: number of windows that are skipped because the localizer found nothing near them.
    """

    member: Member
    prepared: Prepared
    tiling: Tiling
    prefix: str = ""
    contexts: tuple[CoarseMap | None, ...] = ()
    found: CoarseMap | None = None
    air_windows: int = 0
    skipped_windows: int = 0

    @cached_property
    def inverse(self) -> InverseTransform:
        """The inverse transform to the original grid."""
        return InverseTransform(self.prepared.record, self.tiling.axes)

    def bands(self, chunking: Chunking) -> list[Band]:
        """The bands of the case, the same for every member; `empty` ones lie outside this member's content."""
        return split_bands(self.inverse, chunking.bands)

    def windows(self, chunking: Chunking) -> int:
        """Number of windows that each engine runs; those at the borders of bands count for each band."""
        bands = (band for band in self.bands(chunking) if not band.empty)
        return sum(len(group.starts) for band in bands for group in self.tiling.groups(band.sources, 1))

    def slabs(
        self, band: Band, options: PredictOptions, chunking: Chunking, on_windows: Callable[[int], None]
    ) -> Iterator[tuple[Slab, slice]]:
        """Run the windows of a band in the order of the tiling.

        Args:
            band: one of `bands`; an empty one has no slabs.
            options: options of the prediction.
            chunking: how the case is divided.
            on_windows: called with the number of newly finished windows.
        Returns: each slab, averaged over the engines, and the rows of the content that it determines.
        """
        if band.empty:
            return
        member, buffers = self.member, _SlabBuffers(self.member)
        across = band.sources.stop - band.sources.start, self.tiling.shape[self.tiling.axes[2]]
        done = 0
        for finished in sliding_window(
            self.prepared.array,
            member.engines,
            self.tiling,
            Blending.of(member.plan, options),
            contexts=self.contexts,
            band=band.sources,
            planes=chunking.planes,
            fill=chunking.fill,
            on_windows=on_windows,
        ):
            slab = buffers.add(finished, across)
            if self.found is not None and options.attention:
                slab = replace(slab, attention={LOCALIZER_MAP: self._found(slab, band), **slab.attention})
            rows = slice(done, self.inverse.finished_rows(slab.probabilities.stop))
            yield slab, rows
            done = rows.stop

    def _found(self, slab: Slab, band: Band) -> Planes:
        """What the localizers found in the planes of a slab, also where no window was run."""
        assert self.found is not None
        axes, (first, array) = self.tiling.axes, slab.probabilities
        parts = slice(first, first + array.shape[1]), band.sources, slice(0, self.tiling.shape[axes[2]])
        i, j, k = (parts[axes.index(axis)] for axis in range(3))
        window = self.found.window([part.start for part in (i, j, k)], [part.stop - part.start for part in (i, j, k)])
        return Planes(first, window.transpose(0, *(axis + 1 for axis in axes)))


class _SlabBuffers:
    """Memory for the planes of a slab, reused for the next one; it is background wherever nothing was computed."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._arrays: dict[str, Floats] = {}
        self._held = 0
        self._across = self._written = slice(0, 0), slice(0, 0)

    def add(self, finished: FinishedPlanes, across: tuple[int, int]) -> Slab:
        """The slab of the last plane before and the newly finished planes."""
        known, count = min(self._held, 1), finished.planes
        channels = {name: len(array) for name, array in (*self._arrays.items(), *finished.outputs[0].items())}
        channels[LOGITS] = len(self._member.plan.outputs)
        for name, size in channels.items():
            self._make_room(name, (size, count + 1, *across))
        self._held, first = known + count, finished.first - known
        fresh = slice(known, self._held)
        if _union(self._written, finished.across) != finished.across:
            for name, array in self._arrays.items():
                self._blank(name, array[:, fresh, *self._written])
        self._fill(fresh, finished)
        planes = {name: Planes(first, array[:, : self._held]) for name, array in self._arrays.items()}
        both = _union(self._across, finished.across)
        self._across, self._written = finished.across, _union(self._written, finished.across)
        return Slab(planes.pop(LOGITS), planes, known, both)

    def _make_room(self, name: str, shape: tuple[int, ...]) -> None:
        """Provide memory of this shape, with the last of the present planes as its first."""
        old = self._arrays.get(name)
        if old is None or old.shape[1] < shape[1]:
            self._arrays[name] = np.zeros(shape, np.float32)
            self._blank(name, self._arrays[name])
        if old is not None:
            self._arrays[name][:, 0] = old[:, self._held - 1]

    def _blank(self, name: str, array: Floats) -> None:
        """Make all of it background."""
        array[:] = 0
        if name == LOGITS and not self._member.plan.regions:
            array[0] = 1

    def _fill(self, where: slice, finished: FinishedPlanes) -> None:
        """Write the mean over the engines, plane by plane on every core, with background where there was no window."""
        engines, member = len(finished.outputs), self._member

        def work(planes: slice) -> None:
            for name in finished.outputs[0]:
                parts = (outputs[name][:, planes] for outputs in finished.outputs)
                if name == LOGITS:
                    parts = (activate(part, member.plan, member.temperature, member.bias) for part in parts)
                target = self._arrays[name][:, where, *finished.across][:, planes]
                target[:] = next(parts)
                for part in parts:
                    target += part
                target /= engines
            if finished.covered is not None:
                uncovered = ~finished.covered[planes]
                for name, array in self._arrays.items():
                    target = array[:, where, *finished.across][:, planes]
                    target[:, uncovered] = 0
                    if name == LOGITS and not member.plan.regions:
                        target[0][uncovered] = 1

        count = where.stop - where.start
        each_slab(work, count, -(-count // cores()))


def _union(first: tuple[slice, slice], second: tuple[slice, slice]) -> tuple[slice, slice]:
    """The smallest box around two boxes, either of which may be empty."""
    if first[0].start == first[0].stop:
        return second
    if second[0].start == second[0].stop:
        return first
    near, far = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return near, far
