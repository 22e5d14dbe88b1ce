"""How much memory a case takes, and in what portions it must be gone through to stay below a limit."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from attunet.data.restoration.mask import smallest_integer
from attunet.data.restoration.route import Band
from attunet.data.restoration.winning import SLAB_VOXELS
from attunet.data.slabs import MOST_THREADS, cores
from attunet.errors import ConfigError
from attunet.inference.limits.scratch import LARGE
from attunet.inference.prediction import PredictOptions
from attunet.inference.task import Task
from attunet.inference.windows.running import windows_to_fill
from attunet.inference.windows.slabs import Course

__all__ = ["Needs", "gigabytes", "highest_bytes", "plan_course", "resident_bytes"]

_GB = 2**30
_FLOAT = 4
_DECIDING = 48  # bytes for each voxel that is decided at once: its corners and weights, where labels meet
_SUMMING = 22  # bytes for each voxel whose probabilities are summed up
_CLEANING = 9  # bytes a voxel: a copy of the mask, one label's, its holes, its numbered pieces
_MARGIN, _SLACK = 1.05, 48 * 2**20  # what sums of arrays do not show: pages half used, small things
_SLAB = 2**23  # numbers of all classes that are decided at once, unless memory is short
_ROWS = 2**24  # numbers of all classes of the original grid
_PORTIONS = ((4, 32), (4, 16), (1, 16), (1, 8), (1, 4), (1, 2))
_MOST_BANDS = 256


@dataclass(frozen=True)
class Needs:
    """What a case takes beyond what the process holds when its image is prepared and its engines are warm.

    Args: what each member is to do; the options; whether the mask is post-processed afterwards.
    """

    tasks: Sequence[Task]
    options: PredictOptions
    cleaned: bool = False

    def bytes(self, course: Course) -> int:
        """The most at any time, in these portions."""
        voxels = prod(self._shape)
        plan = self.tasks[0].member.plan
        mask = voxels * np.dtype(smallest_integer(tuple(plan.labels.values()))).itemsize
        kept = self._kept(len(plan.outputs)) if self.options.probabilities else 0
        kept += sum(self._kept(maps) for task in self.tasks for maps in self._maps(task))
        streaming = sum(self._streaming(task, course) for task in self.tasks)
        cleaning = _CLEANING * voxels if self.cleaned else 0
        return int(mask + _MARGIN * (kept + max(streaming, cleaning))) + _SLACK

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.tasks[0].prepared.record.shape

    def _kept(self, channels: int) -> int:
        size = _FLOAT * channels * prod(self._shape)
        return size if size < LARGE else 0  # larger ones are kept in a file

    def _maps(self, task: Task) -> list[int]:
        """Of each gate whose attention is stitched, the maps."""
        network = task.member.plan.network
        return [network.maps_per_gate] * len(network.gate_widths) if self.options.attention else []

    def _row(self, task: Task, band: Band) -> tuple[int, int]:
        """Of the original grid in a band: of the content only, unless members must meet on the same rows."""
        if len(self.tasks) == 1:
            return task.route.content_shape(band)
        record = task.route.record
        return band.across.stop - band.across.start, record.shape[record.axes[task.route.axes[2]]]

    def _streaming(self, task: Task, course: Course) -> int:
        engines, outputs, maps = len(task.member.engines), len(task.member.plan.outputs), sum(self._maps(task))
        channels = outputs + maps
        patch = prod(task.member.plan.patch_size)
        batch = max(engine.batch for engine in task.member.engines)
        running = _FLOAT * batch * patch * (channels + 2 * len(task.prepared.array) + 2)
        most = 0
        route = task.route
        for band in task.bands(course):
            if band.empty:
                continue
            width = band.sources.stop - band.sources.start
            area = width * route.resizing.old[2]
            fill = windows_to_fill(task.member.engines, task.member.blending(self.options), course.fill)
            groups = task.tiling.groups(band.sources, fill)
            finished = max(after - before for before, after in _steps(group.done for group in groups))
            planes = min(course.planes or finished, finished)
            canvas = _FLOAT * area * (task.tiling.depth(groups) * (engines * (channels + 1) + 1))
            slab = area * (_FLOAT * (planes * (engines * channels + outputs) + (planes + 1) * channels))
            native = self._row(task, band)
            rows = -(-(planes + 1) * route.resizing.new[0] // route.resizing.old[0])
            threads = min(cores(), MOST_THREADS)
            deciding = _DECIDING * min(rows * prod(native), threads * SLAB_VOXELS)
            floats = 3 * _FLOAT * channels * min(rows, course.rows) * prod(native)
            if not (self.options.probabilities or maps or len(self.tasks) > 1):
                floats = 0
            most = max(most, canvas + slab + max(deciding, floats, _SUMMING * planes * area, running))
        return most


def plan_course(needs: Needs, limit: int | None, held: int) -> tuple[Course, int]:
    """The quickest way through a case that keeps the process below a limit, and the peak that it is predicted to have.

    Args: what the case takes; the limit in bytes, None for none; what the process holds already.
    Raises: ConfigError when not even the smallest portions fit.
    """
    least = sys.maxsize
    for course in _courses(needs, limit is not None):
        peak = held + needs.bytes(course)
        if limit is None or peak <= limit:
            return course, peak
        least = min(least, peak)
    assert limit is not None, "without a limit the first portions are taken"
    raise ConfigError(
        f"this case takes {gigabytes(least)} at least, {gigabytes(limit)} are allowed "
        f"(the process with the model and the image holds {gigabytes(held)})",
        hint=f"allow {gigabytes(1.05 * least)} with --max-memory"
        + (", predict with one fold" if any(len(task.member.engines) > 1 for task in needs.tasks) else "")
        + (", name one member of the ensemble" if len(needs.tasks) > 1 else "")
        + (
            ", or leave --save-probabilities and --attention out"
            if needs.options.probabilities or needs.options.attention
            else ""
        ),
    )


def resident_bytes() -> int:
    """What the process holds in memory now (Linux), or has held at most."""
    pages = Path("/proc/self/statm")
    if pages.is_file():
        import os

        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return highest_bytes()


def highest_bytes() -> int:
    """What the process has held at most; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():  # the usage of resources counts what the parent held when it started this process
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        if "VmHWM" in fields:  # not so in some sandboxes
            return int(fields["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def gigabytes(size: float) -> str:
    """Bytes as text."""
    return f"{size / _GB:.2f} GB"


def _courses(needs: Needs, limited: bool) -> Iterator[Course]:
    """From the quickest to the leanest."""
    rows = _rows(needs, 1)
    usual = Course(planes=_usual_planes(needs), rows=rows)
    yield usual
    if not limited:
        return
    bands = 1
    while bands <= _MOST_BANDS:
        for fill, planes in _PORTIONS:
            yield replace(
                usual, bands=bands, planes=min(planes, usual.planes or planes), fill=fill, rows=_rows(needs, bands)
            )
        bands += max(1, bands // 4)


def _usual_planes(needs: Needs) -> int:
    """Planes whose numbers for all classes are many enough to keep every core busy, and few enough."""
    sizes = []
    for task in needs.tasks:
        _, across, columns = task.route.resizing.old
        sizes.append(across * columns * len(task.member.plan.outputs) * len(task.member.engines))
    return max(8, _SLAB // max(sizes))


def _rows(needs: Needs, bands: int) -> int:
    shape = needs.tasks[0].route.resizing.new
    return max(1, _ROWS * bands // (shape[1] * shape[2] * len(needs.tasks[0].member.plan.outputs)))


def _steps(stops: Iterator[int]) -> Iterator[tuple[int, int]]:
    before = 0
    for stop in stops:
        yield before, stop
        before = stop
