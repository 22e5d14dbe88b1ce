"""One case from windows to mask, slab by slab: nothing of all classes is ever held for a whole grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from attunet.data.slabs import few_rows
from attunet.data.volume import Array
from attunet.inference.ensemble import go_in_step
from attunet.inference.outputs import DiceSums, as_probabilities
from attunet.inference.prediction import PredictOptions
from attunet.inference.task import Kept, Task
from attunet.inference.windows.slabs import Course

__all__ = ["Segmented", "segment"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Segmented:
    """On the original grid: label values (1, I, J, K); if asked for, probabilities and attention by gate (C, I, J, K).

    expected_dice: see `outputs.expected_dice`.
    """

    mask: Array
    expected_dice: dict[str, float | None]
    probabilities: Floats | None = None
    attention: dict[str, Floats] = field(default_factory=dict)


def segment(
    tasks: Sequence[Task],
    options: PredictOptions,
    course: Course,
    on_windows: Callable[[int], None] = lambda _: None,
) -> Segmented:
    """The mask of one case, decided as by `ask` and `decide`.

    Several members go through the original grid in step, each along the model axis that lies as the first one's.
    Args: what each member is to do, on one original grid; the options; in what portions; what to
        call with the windows just done.
    """
    kept = Kept(tasks[0].prepared.record, tasks[0].member.plan, options.probabilities, options.scratch)
    if len(tasks) == 1:
        sums = _alone(tasks[0], options, course, kept, on_windows)
    else:
        sums = go_in_step(tasks, options, course, kept, on_windows)
    likely = None if kept.likely is None else kept.likely.array
    attention = {gate: scratch.array for gate, scratch in kept.attention.items()}
    return Segmented(kept.mask, sums.expected_dice(kept.plan), likely, attention)


def _alone(
    task: Task, options: PredictOptions, course: Course, kept: Kept, on_windows: Callable[[int], None]
) -> DiceSums:
    """Decide on the model grid's planes; only where labels meet are they interpolated."""
    route, plan = task.route, task.member.plan
    sums = DiceSums.none(plan)
    for band in task.bands(course):
        mask = route.content(kept.mask, band)[0]
        own = slice(band.own.start - band.sources.start, band.own.stop - band.sources.start)
        for slab, rows in task.slabs(band, options, course, on_windows):
            sums += DiceSums.of_all(slab.fresh[:, :, own], plan)
            write = partial(kept.write_mask, mask)
            route.decide(slab.probabilities, band, rows, regions=bool(plan.regions), write=write)
            kept.write_attention(task, band, slab, rows, course.rows)
            if kept.likely is not None:
                target = route.content(kept.likely.array, band)
                for few in few_rows(rows, course.rows):
                    target[:, few] = as_probabilities(route.floats(slab.probabilities, band, few), plan)
                    kept.likely.release()
    return sums
