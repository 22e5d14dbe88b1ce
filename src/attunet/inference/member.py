"""`Member`: one trained run inside a segmenter, and its probabilities of one case slab by slab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.preprocess import Prepared
from attunet.data.restore import Band, InverseTransform, Planes, split_bands
from attunet.data.slabs import cores, each_slab
from attunet.inference.engines.protocol import Engine
from attunet.inference.outputs import activate
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.sliding_window import FILLED_BATCHES, LOGITS, Blending, FinishedPlanes, sliding_window
from attunet.inference.windows.tiling import Tiling

__all__ = ["Chunking", "Member", "MemberCase", "Slab"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Member:
    """A plan and the engines of its folds, whose probabilities are averaged on the model grid.

    Args:
        name: of the run in an ensemble.
        plan: of the run.
        engines: one for each fold.
        temperature: divides the logits; 1 when nothing was calibrated.
        air: how far above its image's minimum a window of a prepared image must reach to be run; None runs all.
    """

    name: str
    plan: Plan
    engines: tuple[Engine, ...]
    temperature: float = 1.0
    air: float | None = None


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """The portions in which a case is computed: they change time and memory, never the result.

    Args:
        bands: into which the case is cut across the order of the windows, each with all windows that touch it.
        planes: of the model grid that are decided at once; None for all that are finished.
        fill: batches of windows between two slabs, at least.
        rows: of the original grid of which all classes are held at once.
    """

    bands: int = 1
    planes: int | None = None
    fill: int = FILLED_BATCHES
    rows: int = 8


@dataclass(frozen=True)
class Slab:
    """Finished planes of a member. The last of a slab is the first of the next, so that rows between them can be made.

    Args:
        probabilities: (outputs, planes, band, columns), valid until the next slab is requested.
        attention: by gate, (maps, planes, band, columns), valid as long.
        known: number of planes that were in the slab before.
    """

    probabilities: Planes
    attention: dict[str, Planes]
    known: int

    @property
    def fresh(self) -> Floats:
        """The probabilities of the planes that were in no slab before."""
        return self.probabilities.array[:, self.known :]


@dataclass(frozen=True, kw_only=True)
class MemberCase:
    """A case as it was prepared for a member, and the windows to run.

    Args:
        member: the member.
        prepared: its input, and the record of the preprocessing.
        tiling: the windows.
        prefix: of the names of its gates.
    """

    member: Member
    prepared: Prepared
    tiling: Tiling
    prefix: str = ""

    @cached_property
    def inverse(self) -> InverseTransform:
        """The way back to the original grid."""
        return InverseTransform(self.prepared.record, self.tiling.axes)

    def bands(self, chunking: Chunking) -> list[Band]:
        """The bands of the case, the same for every member; `empty` ones lie beside this one's content."""
        return split_bands(self.inverse, chunking.bands)

    def windows(self, chunking: Chunking) -> int:
        """Windows that each engine runs; those at the borders of bands count for each band."""
        bands = (band for band in self.bands(chunking) if not band.empty)
        return sum(len(group.starts) for band in bands for group in self.tiling.groups(band.sources, 1))

    def slabs(
        self, band: Band, options: PredictOptions, chunking: Chunking, on_windows: Callable[[int], None]
    ) -> Iterator[tuple[Slab, slice]]:
        """Run the windows of a band in the order of the tiling.

        Args:
            band: of `bands`; an empty one has no slabs.
            options: of the prediction.
            chunking: the portions.
            on_windows: called with the number of windows just done.
        Returns: each slab, averaged over the engines, and the rows of the content that it decides.
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
            band=band.sources,
            planes=chunking.planes,
            fill=chunking.fill,
            on_windows=on_windows,
        ):
            slab = buffers.add(finished, across)
            rows = slice(done, self.inverse.finished_rows(slab.probabilities.stop))
            yield slab, rows
            done = rows.stop


class _SlabBuffers:
    """Memory for the planes of a slab, used again for the next."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._arrays: dict[str, Floats] = {}
        self._held = 0

    def add(self, finished: FinishedPlanes, across: tuple[int, int]) -> Slab:
        """The slab of finished planes, after the last plane of the one before."""
        known, count = min(self._held, 1), finished.planes
        channels = {name: len(array) for name, array in finished.outputs[0].items()}
        channels[LOGITS] = len(self._member.plan.outputs)
        for name, size in channels.items():
            self._make_room(name, (size, count + 1, *across))
        self._held, first = known + count, finished.first - known
        self._fill(slice(known, self._held), finished)
        planes = {name: Planes(first, array[:, : self._held]) for name, array in self._arrays.items()}
        return Slab(planes.pop(LOGITS), planes, known)

    def _make_room(self, name: str, shape: tuple[int, ...]) -> None:
        """Provide memory of that shape, its first plane the last of those held."""
        old = self._arrays.get(name)
        if old is None:
            self._arrays[name] = np.zeros(shape, np.float32)
            return
        if old.shape[1] < shape[1]:
            self._arrays[name] = np.empty(shape, np.float32)
        self._arrays[name][:, 0] = old[:, self._held - 1]

    def _fill(self, where: slice, finished: FinishedPlanes) -> None:
        """Write the mean over the engines, plane by plane on every core; background where there was no window."""
        engines, member = len(finished.outputs), self._member

        def work(planes: slice) -> None:
            for name in finished.outputs[0]:
                parts = (outputs[name][:, planes] for outputs in finished.outputs)
                if name == LOGITS:
                    parts = (activate(part, member.plan, member.temperature) for part in parts)
                target = self._arrays[name][:, where][:, planes]
                target[:] = next(parts)
                for part in parts:
                    target += part
                target /= engines
            if finished.covered is not None:
                uncovered = ~finished.covered[planes]
                probabilities = self._arrays[LOGITS][:, where][:, planes]
                probabilities[:, uncovered] = 0
                if not member.plan.regions:
                    probabilities[0][uncovered] = 1

        count = where.stop - where.start
        each_slab(work, count, -(-count // cores()))
