"""What is to be done for one case: prepared images, windows, portions; all decided before the first window is run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from attunet.data.preprocess import Prepared, prepare
from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.inference.limits.deadline import hurried
from attunet.inference.limits.footprint import Needs, gigabytes, highest_bytes, plan_course, resident_bytes
from attunet.inference.member import Member
from attunet.inference.prediction import PredictOptions
from attunet.inference.task import Task
from attunet.inference.windows.air import without_air
from attunet.inference.windows.slabs import Course
from attunet.inference.windows.tiling import Tiling

__all__ = ["Agenda", "make_agenda", "warm_up"]

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Agenda:
    """A case that can be begun.

    Args: what each member is to do; the options that apply; in what portions; the memory in bytes that the process
        is predicted to hold at most; windows that are left out as air; what the user should know.
    """

    tasks: tuple[Task, ...]
    options: PredictOptions
    course: Course
    peak: int
    air: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def content(self) -> Box:
        """The box of the original grid that every member looks at: of one that crops to it, else the whole."""
        boxes = (task.prepared.record.content for task in self.tasks)
        return min(boxes, key=lambda box: prod(part.stop - part.start for part in box))

    @property
    def windows(self) -> int:
        """How many are run by all engines; those at the borders of bands count for each band."""
        return sum(task.windows(self.course) * len(task.member.engines) for task in self.tasks)


def make_agenda(members: Sequence[Member], volume: Volume, options: PredictOptions, *, cleaned: bool = False) -> Agenda:
    """Prepare a case for each member, and settle its windows and its portions.

    Raises: DataError, GeometryError as `prepare`; ConfigError when it cannot be done in the memory that is allowed.
    """
    started, before = time.perf_counter(), highest_bytes()
    prepared = _prepared(members, volume)
    preparing = highest_bytes() if highest_bytes() > before else 0  # else an earlier case took more

    def tiled(changed: PredictOptions) -> list[Task]:
        return _tasks(members, prepared, changed)

    tasks, warning = tiled(options), None
    if options.max_memory is not None:
        warm_up(members)
    needs = Needs(tasks, options, cleaned)
    held = resident_bytes()
    course, peak = plan_course(needs, options.max_memory, held)
    if options.time_limit is not None:
        left = options.time_limit - (time.perf_counter() - started)
        tasks, options, warning = hurried(tasks, options, left, course, tiled)
        course, peak = plan_course(replace(needs, tasks=tasks, options=options), options.max_memory, held)
    everything = sum(len(replace(task.tiling, left_out=frozenset())) for task in tasks)
    air = everything - sum(len(task.tiling) for task in tasks)
    peak = max(peak, preparing)
    if options.max_memory is not None and peak > options.max_memory:
        raise ConfigError(
            f"preparing this case took {gigabytes(peak)}, {gigabytes(options.max_memory)} are allowed",
            hint="allow more with --max-memory",
        )
    return Agenda(tuple(tasks), options, course, peak, air, () if warning is None else (warning,))


def warm_up(members: Sequence[Member]) -> None:
    """Run a batch in every engine of this thread, after which they hold what they will hold."""
    for member in members:
        network = member.plan.network
        shape = (network.in_channels, *member.plan.patch_size[: network.spatial_dims])
        for engine in member.engines:
            engine(np.zeros((engine.batch, *shape), np.float32))


def _prepared(members: Sequence[Member], volume: Volume) -> list[Prepared]:
    """Members that see an image alike share it."""
    made: list[Prepared] = []
    for index, member in enumerate(members):
        asked = member.plan.preprocessing
        alike = (one for one, other in zip(made, members[:index], strict=False) if other.plan.preprocessing == asked)
        made.append(next(alike, None) or prepare(volume, asked))
    return made


def _tasks(members: Sequence[Member], prepared: Sequence[Prepared], options: PredictOptions) -> list[Task]:
    """Windows for each member, in order along one axis of the original grid: the first member's best."""
    tasks: list[Task] = []
    for member, each in zip(members, prepared, strict=True):
        record = each.record
        axes = None
        if tasks:
            first = tasks[0].prepared.record
            i, j, k = (record.axes.index(first.axes[axis]) for axis in tasks[0].tiling.axes)
            axes = i, j, k
        tiling = Tiling.of(record.model_shape, member.plan.patch_size, options.step_size, axes)
        tiling = without_air(tiling, each.array, member.air if options.skip_air else None)
        tasks.append(Task(member, each, tiling, f"{member.name}/" if len(members) > 1 else ""))
    return tasks
