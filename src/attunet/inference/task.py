"""What a member is to do for a case, and what is kept of the case on its original grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attunet.config import Plan
from attunet.data.preprocess import Prepared
from attunet.data.record import PreprocessingRecord
from attunet.data.restoration.mask import blank_mask
from attunet.data.restoration.route import Band, Route, bands_of
from attunet.data.restoration.winning import Codes
from attunet.data.slabs import few_rows
from attunet.data.volume import Array
from attunet.inference.limits.scratch import Scratch
from attunet.inference.member import Member
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.slabs import Course, Slab, slabs_of
from attunet.inference.windows.tiling import Tiling

__all__ = ["Kept", "Task"]


@dataclass(frozen=True)
class Task:
    """A member, the case as it was prepared for it, and its windows.

    prefix: what the names of its gates begin with.
    """

    member: Member
    prepared: Prepared
    tiling: Tiling
    prefix: str = ""

    @property
    def route(self) -> Route:
        """Its way back to the original grid."""
        return Route(self.prepared.record, self.tiling.axes)

    def bands(self, course: Course) -> list[Band]:
        """What the case is cut into, alike for every member; `empty` ones lie beside this one's content."""
        return bands_of(self.route, course.bands)

    def windows(self, course: Course) -> int:
        """How many windows are run by each engine; those at the borders of bands count for each band."""
        bands = (band for band in self.bands(course) if not band.empty)
        return sum(len(group.starts) for band in bands for group in self.tiling.groups(band.sources, 1))

    def slabs(
        self, band: Band, options: PredictOptions, course: Course, on_windows: Callable[[int], None]
    ) -> Iterator[tuple[Slab, slice]]:
        """Each slab of a band, and the rows of the content that it decides; none of an empty band."""
        if band.empty:
            return
        done = 0
        blending = self.member.blending(options, on_windows)
        for slab in slabs_of(self.member, self.prepared.array, self.tiling, band.sources, blending, course):
            rows = slice(done, self.route.ready(slab.probabilities.stop))
            yield slab, rows
            done = rows.stop


class Kept:
    """What is kept of a case on its original grid."""

    def __init__(self, record: PreprocessingRecord, plan: Plan, probabilities: bool, folder: Path | None) -> None:
        values = tuple(plan.labels.values())
        self.plan = plan
        self.shape, self.folder = record.shape, folder
        self.mask = blank_mask(record, values)
        self.values = np.array(values, self.mask.dtype)
        self.likely = Scratch((len(plan.outputs), *record.shape), folder) if probabilities else None
        if self.likely is not None and not plan.regions and record.cropped_shape != _upright(record):
            self.likely.fill(0, 1.0)
        self.attention: dict[str, Scratch] = {}

    def write_mask(self, target: Array, rows: slice, codes: Codes) -> None:
        """Codes as label values into rows of a part of the mask."""
        target[rows] = self.values.take(codes)

    def write_attention(self, task: Task, band: Band, slab: Slab, rows: slice, most: int) -> None:
        """Rows of the content of every gate."""
        for gate, planes in slab.attention.items():
            name = f"{task.prefix}{gate}"
            if name not in self.attention:
                self.attention[name] = Scratch((len(planes.array), *self.shape), self.folder)
            scratch = self.attention[name]
            target = task.route.content(scratch.array, band)
            for few in few_rows(rows, most):
                target[:, few] = task.route.floats(planes, band, few)
                scratch.release()


def _upright(record: PreprocessingRecord) -> tuple[int, ...]:
    """The original shape in canonical axes."""
    return tuple(record.shape[axis] for axis in record.axes)
