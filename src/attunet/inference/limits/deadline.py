"""A case that must end in time: the first windows are timed, and where all would take too long, fewer are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from attunet.inference.prediction import PredictOptions
from attunet.inference.task import Task
from attunet.inference.windows.running import windows_to_fill
from attunet.inference.windows.slabs import Course
from attunet.inference.windows.sliding_window import sweep
from attunet.inference.windows.tiling import Tiling

__all__ = ["hurried", "seconds_a_window"]

STEPS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_TIMED_BATCHES = 2
_FOR_WINDOWS = 0.85  # of the time that is left; the rest is for what a mask takes after its last window


def hurried(
    tasks: Sequence[Task],
    options: PredictOptions,
    seconds: float,
    course: Course,
    retile: Callable[[PredictOptions], list[Task]],
) -> tuple[list[Task], PredictOptions, str | None]:
    """The same tasks, or with the smallest step that ends in time; at last without mirrored copies.

    Args: the tasks, the options, the seconds that are left of the case's limit; in what portions the case is gone
        through; what makes the tasks of other options.
    Returns: tasks, options, and a warning when they differ from what was asked for.
    """
    started = time.perf_counter()
    cost = [seconds_a_window(task, options) for task in tasks]
    left = (seconds - (time.perf_counter() - started)) * _FOR_WINDOWS
    needed = _needed(tasks, cost, course)
    if needed <= left:
        return list(tasks), options, None
    chosen, plain = options, replace(options, mirror=False)
    steps = [step for step in STEPS if step > options.step_size] or [options.step_size]
    for chosen in (*(replace(options, step_size=step) for step in steps), replace(plain, step_size=steps[-1])):
        fewer = retile(chosen)
        share = [len(task.member.blending(chosen).copies) / len(task.member.blending(options).copies) for task in tasks]
        expected = _needed(fewer, [one * part for one, part in zip(cost, share, strict=True)], course)
        if expected <= left:
            break
    what = f"windows {chosen.step_size:g} instead of {options.step_size:g} patches apart"
    what += ", without mirrored copies" if options.mirror and not chosen.mirror else ""
    late = "" if expected <= left else "; even so it will take longer than allowed"
    return fewer, chosen, f"to end in time: {what} (all would take {needed:.0f} s, {max(left, 0):.0f} s are left){late}"


def seconds_a_window(task: Task, options: PredictOptions) -> float:
    """What a window with its copies takes in all engines: some full batches in the middle of the case, run twice."""
    engines, blending = task.member.engines, task.member.blending(options)
    count = windows_to_fill(engines, blending, _TIMED_BATCHES)
    patch = task.member.plan.patch_size
    starts = [max(0, size - edge) // 2 for size, edge in zip(task.tiling.shape, patch, strict=True)]
    i, j, k = (slice(start, start + edge) for start, edge in zip(starts, patch, strict=True))
    middle = task.prepared.array[:, i, j, k]
    shape = middle.shape[1], middle.shape[2], middle.shape[3]
    once = Tiling.of(shape, patch, 1.0, task.tiling.axes)
    again = replace(once, starts=(once.starts[0] * count, *once.starts[1:]))
    seconds = 0.0
    for _ in range(2):  # the first batches are slower
        started = time.perf_counter()
        for _finished in sweep(middle, engines, again, blending, fill=_TIMED_BATCHES):
            pass
        seconds = time.perf_counter() - started
    return seconds / count


def _needed(tasks: Sequence[Task], cost: Sequence[float], course: Course) -> float:
    """Seconds for all windows of all bands."""
    return sum(task.windows(course) * one for task, one in zip(tasks, cost, strict=True))
