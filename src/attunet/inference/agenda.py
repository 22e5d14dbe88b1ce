"""What is to be done for one case: prepared images, windows, portions; all decided before the first window is run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from attunet.data.preprocess import Prepared, prepare
from attunet.data.volume import Volume
from attunet.errors import ConfigError
from attunet.inference.limits.deadline import hurried
from attunet.inference.limits.footprint import Needs, gigabytes, highest_bytes, plan_course, resident_bytes
from attunet.inference.member import Member, Pass
from attunet.inference.task import Task
from attunet.inference.windows.air import without_air
from attunet.inference.windows.slabs import Course
from attunet.inference.windows.tiling import Tiling

__all__ = ["Agenda", "Options", "make_agenda", "warm_up"]

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Options:
    """How a case is predicted.

    Args: step and mirroring as in `Pass`; whether attention and probabilities are kept; whether windows of air are left
        out where the model allows; bytes that the process may hold, None for no limit; seconds that it may take, None
        for no limit; the folder for what is too large for memory; whether the mask is cleaned afterwards.
    """

    step: float = 0.5
    mirror: bool = True
    attention: bool = False
    probabilities: bool = False
    skip_air: bool = True
    max_memory: int | None = None
    time_limit: float | None = None
    folder: Path | None = None
    cleaned: bool = False


@dataclass(frozen=True)
class Agenda:
    """A case that can be begun.

    Args: what each member is to do; the pass; in what portions; the memory in bytes that the process is predicted to
        hold at most; windows that are left out as air; what the user should know.
    """

    tasks: tuple[Task, ...]
    how: Pass
    course: Course
    peak: int
    air: int = 0
    notices: tuple[str, ...] = ()

    @property
    def content(self) -> Box:
        """The box of the original grid that every member looks at: of one that crops to it, else the whole."""
        boxes = (task.prepared.trail.content for task in self.tasks)
        return min(boxes, key=lambda box: prod(part.stop - part.start for part in box))

    @property
    def windows(self) -> int:
        """How many are run by all engines; those at the borders of bands count for each band."""
        return sum(task.windows(self.course) * len(task.member.engines) for task in self.tasks)


def make_agenda(members: Sequence[Member], volume: Volume, options: Options) -> Agenda:
    """Prepare a case for each member, and settle its windows, its pass and its portions.

    Raises: DataError, GeometryError as `prepare`; ConfigError when it cannot be done in the memory that is allowed.
    """
    started, before = time.perf_counter(), highest_bytes()
    prepared = _prepared(members, volume)
    preparing = highest_bytes() if highest_bytes() > before else 0  # else an earlier case took more
    how = Pass(options.step, options.mirror, options.attention)

    def tiled(asked: Pass) -> list[Task]:
        return _tasks(members, prepared, asked.step, options.skip_air)

    tasks, notice = tiled(how), None
    if options.max_memory is not None:
        warm_up(members)
    needs = Needs(tasks, how, options.probabilities, options.cleaned)
    held = resident_bytes()
    course, peak = plan_course(needs, options.max_memory, held)
    if options.time_limit is not None:
        left = options.time_limit - (time.perf_counter() - started)
        tasks, how, notice = hurried(tasks, how, left, course, tiled)
        course, peak = plan_course(replace(needs, tasks=tasks, how=how), options.max_memory, held)
    everything = sum(len(replace(task.tiling, left_out=frozenset())) for task in tasks)
    air = everything - sum(len(task.tiling) for task in tasks)
    peak = max(peak, preparing)
    if options.max_memory is not None and peak > options.max_memory:
        raise ConfigError(
            f"preparing this case took {gigabytes(peak)}, {gigabytes(options.max_memory)} are allowed",
            hint="allow more with --max-memory",
        )
    return Agenda(tuple(tasks), how, course, peak, air, () if notice is None else (notice,))


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


def _tasks(members: Sequence[Member], prepared: Sequence[Prepared], step: float, skip_air: bool) -> list[Task]:
    """Windows for each member, in order along one axis of the original grid: the first member's best."""
    tasks: list[Task] = []
    for member, each in zip(members, prepared, strict=True):
        trail = each.trail
        axes = None
        if tasks:
            first = tasks[0].prepared.trail
            i, j, k = (trail.axes.index(first.axes[axis]) for axis in tasks[0].tiling.axes)
            axes = i, j, k
        tiling = Tiling.of(trail.model_shape, member.plan.patch_size, step, axes)
        tiling = without_air(tiling, each.array, member.air if skip_air else None)
        tasks.append(Task(member, each, tiling, f"{member.name}/" if len(members) > 1 else ""))
    return tasks
