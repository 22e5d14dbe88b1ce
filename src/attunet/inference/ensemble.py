"""Members of other grids, averaged on the rows of the original grid, through which they go in step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.data.restoration import bands_of
from attunet.inference.member import Pass
from attunet.inference.outputs import DiceSums, as_probabilities, codes_of
from attunet.inference.task import Kept, Task, few_rows
from attunet.inference.windows.slabs import Course

__all__ = ["go_in_step"]

Floats = npt.NDArray[np.float32]


class _Rows(NamedTuple):
    """Probabilities (C, rows, J, K) of the original grid in a route's axes, all columns, and the first of the rows."""

    first: int
    array: Floats

    @property
    def stop(self) -> int:
        return self.first + int(self.array.shape[1])


def go_in_step(tasks: Sequence[Task], how: Pass, course: Course, kept: Kept) -> DiceSums:
    """Average the members on rows of the original grid."""
    first, *others = (task.route for task in tasks)
    natives = [first.trail.axes[axis] for axis in first.axes]
    turned = [tuple(route.trail.axes.index(axis) for axis in natives) for route in others]
    assert all(task.tiling.axes == axes for task, axes in zip(tasks[1:], turned, strict=True)), "members out of step"
    streams = [_whole_rows(task, how, course, kept) for task in tasks]
    held = [next(stream) for stream in streams]
    mask = first.upright(kept.mask)[0]
    likely = None if kept.likely is None else first.upright(kept.likely.array)
    sums, done = DiceSums.none(kept.plan), 0
    while done < len(mask):
        held = [rows if rows.stop > done else next(stream) for rows, stream in zip(held, streams, strict=True)]
        part = slice(done, min(rows.stop for rows in held))
        average = _average([rows.array[:, part.start - rows.first : part.stop - rows.first] for rows in held])
        kept.write_mask(mask, part, codes_of(average, kept.plan))
        sums += DiceSums.of_all(average, kept.plan)
        if likely is not None and kept.likely is not None:
            likely[:, part] = average
            kept.likely.release()
        done = part.stop
    return sums


def _average(parts: Sequence[Floats]) -> Floats:
    average = parts[0] / np.float32(len(parts))
    for part in parts[1:]:
        average += part / np.float32(len(parts))
    return average


def _whole_rows(task: Task, how: Pass, course: Course, kept: Kept) -> Iterator[_Rows]:
    """All rows of the original grid, a few at a time, the background around the content too."""
    route, plan = task.route, task.member.plan
    (band,) = bands_of(route, 1)
    start, _, _ = route.start
    rows, across, columns = (route.trail.cropped_shape[axis] for axis in route.axes)
    whole = route.upright(kept.mask).shape[1:]
    box = (slice(route.start[1], route.start[1] + across), slice(route.start[2], route.start[2] + columns))

    def surrounded(content: Floats | None, count: int) -> Floats:
        result = np.zeros((len(plan.outputs), count, *whole[1:]), np.float32)
        if content is not None:
            result[:, :, *box] = content
        return as_probabilities(result, plan)

    for few in few_rows(slice(0, start), course.rows):
        yield _Rows(few.start, surrounded(None, few.stop - few.start))
    for slab, ready in task.slabs(band, how, course):
        kept.write_attention(task, band, slab, ready, course.rows)
        for few in few_rows(ready, course.rows):
            yield _Rows(
                start + few.start, surrounded(route.floats(slab.probabilities, band, few), few.stop - few.start)
            )
    for few in few_rows(slice(start + rows, whole[0]), course.rows):
        yield _Rows(few.start, surrounded(None, few.stop - few.start))
