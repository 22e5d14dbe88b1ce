"""Members of other grids, averaged on the rows of the original grid, through which they go in step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.data.restoration.route import Band
from attunet.data.slabs import few_rows
from attunet.inference.outputs import DiceSums, as_probabilities, codes_of
from attunet.inference.prediction import PredictOptions
from attunet.inference.task import Kept, Task
from attunet.inference.windows.slabs import Course

__all__ = ["go_in_step"]

Floats = npt.NDArray[np.float32]


class _Rows(NamedTuple):
    """Probabilities (C, rows, band, K) of the original grid in a route's axes, and the first of the rows."""

    first: int
    array: Floats

    @property
    def stop(self) -> int:
        return self.first + int(self.array.shape[1])


def go_in_step(
    tasks: Sequence[Task],
    options: PredictOptions,
    course: Course,
    kept: Kept,
    on_windows: Callable[[int], None],
) -> DiceSums:
    """Average the members on rows of the original grid, band by band."""
    first, *others = (task.route for task in tasks)
    natives = [first.record.axes[axis] for axis in first.axes]
    turned = [tuple(route.record.axes.index(axis) for axis in natives) for route in others]
    assert all(task.tiling.axes == axes for task, axes in zip(tasks[1:], turned, strict=True)), "members out of step"
    mask = first.upright(kept.mask)[0]
    likely = None if kept.likely is None else first.upright(kept.likely.array)
    sums = DiceSums.none(kept.plan)
    for bands in zip(*(task.bands(course) for task in tasks), strict=True):
        across = bands[0].across
        streams = [
            _whole_rows(task, band, options, course, kept, on_windows) for task, band in zip(tasks, bands, strict=True)
        ]
        for part, average in _averages(streams, len(mask)):
            kept.write_mask(mask[:, across], part, codes_of(average, kept.plan))
            sums += DiceSums.of_all(average, kept.plan)
            if likely is not None and kept.likely is not None:
                likely[:, part, across] = average
                kept.likely.release()
    return sums


def _averages(streams: Sequence[Iterator[_Rows]], count: int) -> Iterator[tuple[slice, Floats]]:
    """Rows from the first to the last of `count`, and the mean of the streams there, as far as each of them is."""
    held, done = [next(stream) for stream in streams], 0
    while done < count:
        held = [rows if rows.stop > done else next(stream) for rows, stream in zip(held, streams, strict=True)]
        part = slice(done, min(rows.stop for rows in held))
        yield part, _average([rows.array[:, part.start - rows.first : part.stop - rows.first] for rows in held])
        done = part.stop


def _average(parts: Sequence[Floats]) -> Floats:
    average = parts[0] / np.float32(len(parts))
    for part in parts[1:]:
        average += part / np.float32(len(parts))
    return average


def _whole_rows(
    task: Task,
    band: Band,
    options: PredictOptions,
    course: Course,
    kept: Kept,
    on_windows: Callable[[int], None],
) -> Iterator[_Rows]:
    """All rows of the original grid in a band, a few at a time, the background around the content too."""
    route, plan = task.route, task.member.plan
    start, before, left = route.start
    rows, _, columns = (0 if band.empty else size for size in route.resizing.new)
    whole = route.upright(kept.mask).shape[1:]
    low = before - band.across.start
    box = (slice(low + band.targets.start, low + band.targets.stop), slice(left, left + columns))

    def surrounded(part: slice, content: Floats | None = None) -> _Rows:
        width = band.across.stop - band.across.start
        result = np.zeros((len(plan.outputs), part.stop - part.start, width, whole[2]), np.float32)
        if content is not None:
            result[:, :, *box] = content
        return _Rows(part.start, as_probabilities(result, plan))

    for few in few_rows(slice(0, start), course.rows):
        yield surrounded(few)
    for slab, ready in task.slabs(band, options, course, on_windows):
        kept.write_attention(task, band, slab, ready, course.rows)
        for few in few_rows(ready, course.rows):
            content = route.floats(slab.probabilities, band, few)
            yield surrounded(slice(start + few.start, start + few.stop), content)
    for few in few_rows(slice(start + rows, whole[0]), course.rows):
        yield surrounded(few)
