"""Memory and time of a case: the chunking that keeps it below a memory limit, and the windows that fit a time limit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import psutil

from attunet.data.argmax_resample import SLAB_VOXELS
from attunet.data.restore import Band, smallest_integer
from attunet.data.slabs import MOST_THREADS, cores
from attunet.errors import ConfigError
from attunet.inference.buffers import LARGE
from attunet.inference.member import Chunking, MemberCase
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.blending import Blending
from attunet.inference.windows.sliding_window import sliding_window, windows_to_fill
from attunet.inference.windows.tiling import Tiling

__all__ = [
    "Footprint",
    "fit_to_deadline",
    "fit_to_memory",
    "gigabytes",
    "peak_resident_bytes",
    "resident_bytes",
    "seconds_per_window",
]

_GB = 2**30
_FLOAT = 4
_DECIDING = 48  # bytes per voxel labelled at once: its corners and weights, at label boundaries
_SUMMING = 22  # bytes per voxel whose probabilities are summed
_CLEANING = 9  # bytes per voxel: a copy of the mask, a label's mask, its holes, its labelled components
_PAGES = 1.05  # pages that are half used
_SLAB = 2**23  # values (of all classes) labelled at once, unless memory is short
_ROWS = 2**24  # values (of all classes) on the original grid
_PORTIONS = ((4, 32), (4, 16), (1, 16), (1, 8), (1, 4), (1, 2))
_MOST_BANDS = 256

STEPS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_TIMED_BATCHES = 2
_FOR_WINDOWS = 0.85  # share of the remaining time for windows; the rest is for the mask after the last window


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The memory of a case, on top of the memory of the process after preprocessing and warm-up.

    Args:
        cases: the case of each member.
        options: options of the prediction.
        postprocessed: whether the mask is post-processed afterwards.
        margin: bytes that are not in arrays, such as small objects.
    """

    cases: Sequence[MemberCase]
    options: PredictOptions
    postprocessed: bool = False
    margin: int = 48 * 2**20

    def bytes(self, chunking: Chunking) -> int:
        """The peak memory in bytes with this chunking."""
        voxels = prod(self._shape)
        plan = self.cases[0].member.plan
        mask = voxels * np.dtype(smallest_integer(tuple(plan.labels.values()))).itemsize
        buffered = self._buffer(len(plan.outputs)) if self.options.probabilities else 0
        buffered += sum(self._buffer(maps) for case in self.cases for maps in (*self._maps(case), self._found(case)))
        streaming = sum(self._streaming(case, chunking) for case in self.cases)
        cleaning = _CLEANING * voxels if self.postprocessed else 0
        return int(mask + _PAGES * (buffered + max(streaming, cleaning))) + self.margin

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.cases[0].prepared.record.shape

    def _buffer(self, channels: int) -> int:
        size = _FLOAT * channels * prod(self._shape)
        return size if size < LARGE else 0  # larger ones are buffered in a file

    def _maps(self, case: MemberCase) -> list[int]:
        """The maps of each gate whose attention is blended."""
        network = case.member.plan.network
        return [network.maps_per_gate] * len(network.gate_widths) if self.options.attention else []

    def _found(self, case: MemberCase) -> int:
        """The map of the localizers, which is interpolated slab by slab."""
        return int(self.options.attention and case.found is not None)

    def _row(self, case: MemberCase, band: Band) -> tuple[int, int]:
        """Voxels in a row of a band of the original grid: of the content only, unless members share whole rows."""
        if len(self.cases) == 1:
            return case.inverse.content_shape(band)
        record = case.inverse.record
        return band.across.stop - band.across.start, record.shape[record.axes[case.inverse.axes[2]]]

    def _streaming(self, case: MemberCase, chunking: Chunking) -> int:
        engines, outputs, maps = len(case.member.engines), len(case.member.plan.outputs), sum(self._maps(case))
        channels, found = outputs + maps, self._found(case)
        patch = prod(case.member.plan.patch_size)
        batch = max(engine.batch for engine in case.member.engines)
        running = _FLOAT * batch * patch * (channels + 2 * case.member.plan.network.in_channels + 2)
        most = 0
        inverse = case.inverse
        for band in case.bands(chunking):
            if band.empty:
                continue
            width = band.sources.stop - band.sources.start
            area = width * inverse.resizing.old[2]
            fill = windows_to_fill(case.member.engines, Blending.of(case.member.plan, self.options), chunking.fill)
            groups = case.tiling.groups(band.sources, fill)
            finished = max(after - before for before, after in _steps(group.done for group in groups))
            planes = min(chunking.planes or finished, finished)
            canvas = _FLOAT * area * (case.tiling.depth(groups) * (engines * (channels + 1) + 1))
            slab = area * (_FLOAT * (planes * (engines * channels + outputs) + (planes + 1) * (channels + 2 * found)))
            native = self._row(case, band)
            rows = -(-(planes + 1) * inverse.resizing.new[0] // inverse.resizing.old[0])
            threads = min(cores(), MOST_THREADS)
            deciding = _DECIDING * min(rows * prod(native), threads * SLAB_VOXELS)
            floats = 3 * _FLOAT * (channels + found) * min(rows, chunking.rows) * prod(native)
            if not (self.options.probabilities or maps or found or len(self.cases) > 1):
                floats = 0
            most = max(most, canvas + slab + max(deciding, floats, _SUMMING * planes * area, running))
        return most


def fit_to_memory(footprint: Footprint, limit: int | None, held: int) -> tuple[Chunking, int]:
    """The fastest chunking that keeps the process below a limit.

    Args:
        footprint: footprint of the case.
        limit: limit in bytes; None for no limit.
        held: bytes that the process already uses.
    Returns: the chunking, and the predicted peak memory of the process in bytes.
    Raises: ConfigError when not even the smallest chunks fit.
    """
    least = sys.maxsize
    for chunking in _chunkings(footprint, limit is not None):
        peak = held + footprint.bytes(chunking)
        if limit is None or peak <= limit:
            return chunking, peak
        least = min(least, peak)
    assert limit is not None, "without a limit, the first plan is used"
    raise ConfigError(
        f"this case needs at least {gigabytes(least)}, but only {gigabytes(limit)} are allowed (the process already "
        f"uses {gigabytes(held)})",
        hint=f"allow {gigabytes(1.05 * least)} with --max-memory"
        + (", predict with one fold" if any(len(case.member.engines) > 1 for case in footprint.cases) else "")
        + (", name one member of the ensemble" if len(footprint.cases) > 1 else "")
        + (
            ", or leave --save-probabilities and --attention out"
            if footprint.options.probabilities or footprint.options.attention
            else ""
        ),
    )


def fit_to_deadline(
    cases: Sequence[MemberCase],
    options: PredictOptions,
    seconds: float,
    chunking: Chunking,
    tile: Callable[[PredictOptions], list[MemberCase]],
) -> tuple[list[MemberCase], PredictOptions, str | None]:
    """The same cases, or with the smallest window step that finishes in time; as a last resort without mirroring.

    Args:
        cases: of the members.
        options: options of the prediction.
        seconds: remaining time.
        chunking: chunking of the case.
        tile: creates the cases with other options.
    Returns: cases and options, and a warning when they differ from the given ones.
    """
    started = time.perf_counter()
    seconds_each = [seconds_per_window(case, options) for case in cases]
    left = (seconds - (time.perf_counter() - started)) * _FOR_WINDOWS
    needed = _needed(cases, seconds_each, chunking)
    if needed <= left:
        return list(cases), options, None
    reduced, plain = options, replace(options, mirror=False)
    steps = [step for step in STEPS if step > options.step_size] or [options.step_size]
    for reduced in (*(replace(options, step_size=step) for step in steps), replace(plain, step_size=steps[-1])):
        fewer = tile(reduced)
        share = [_copies(case, reduced) / _copies(case, options) for case in cases]
        expected = _needed(fewer, [each * part for each, part in zip(seconds_each, share, strict=True)], chunking)
        if expected <= left:
            break
    what = f"windows {reduced.step_size:g} instead of {options.step_size:g} patches apart"
    what += ", without mirrored copies" if options.mirror is not False and reduced.mirror is False else ""
    late = "" if expected <= left else "; even so it will take longer than allowed"
    return (
        fewer,
        reduced,
        f"to end in time: {what} (all would take {needed:.0f} s, {max(left, 0):.0f} s are left){late}",
    )


def seconds_per_window(case: MemberCase, options: PredictOptions) -> float:
    """Time of a window with its mirrored copies in all engines: full batches in the middle of the case, run twice."""
    engines, blending = case.member.engines, Blending.of(case.member.plan, options)
    count = windows_to_fill(engines, blending, _TIMED_BATCHES)
    patch = case.member.plan.patch_size
    starts = [max(0, size - edge) // 2 for size, edge in zip(case.tiling.shape, patch, strict=True)]
    i, j, k = (slice(start, start + edge) for start, edge in zip(starts, patch, strict=True))
    middle = case.prepared.array[:, i, j, k]
    shape = middle.shape[1], middle.shape[2], middle.shape[3]
    once = Tiling.of(shape, patch, 1.0, case.tiling.axes)
    again = replace(once, starts=(once.starts[0] * count, *once.starts[1:]))
    contexts = [context and context.cropped((i, j, k)) for context in case.contexts]
    seconds = 0.0
    for _ in range(2):  # the first batches are slower
        started = time.perf_counter()
        for _finished in sliding_window(middle, engines, again, blending, contexts=contexts, fill=_TIMED_BATCHES):
            pass
        seconds = time.perf_counter() - started
    return seconds / count


def resident_bytes() -> int:
    """Resident memory of the process in bytes."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Peak resident memory of the process so far; 0 if the system does not report it."""
    # psutil has no peak memory on Linux.
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would include the memory of the parent at the start of this process
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        if "VmHWM" in fields:  # missing in some sandboxes
            return int(fields["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def gigabytes(size: float) -> str:
    """Bytes as text, in GB."""
    return f"{size / _GB:.2f} GB"


def _chunkings(footprint: Footprint, limited: bool) -> Iterator[Chunking]:
    """All chunkings, from the fastest to the one with the least memory."""
    rows = _rows(footprint, 1)
    usual = Chunking(planes=_default_planes(footprint), rows=rows)
    yield usual
    if not limited:
        return
    bands = 1
    while bands <= _MOST_BANDS:
        for fill, planes in _PORTIONS:
            yield replace(
                usual, bands=bands, planes=min(planes, usual.planes or planes), fill=fill, rows=_rows(footprint, bands)
            )
        bands += max(1, bands // 4)


def _default_planes(footprint: Footprint) -> int:
    """A number of planes large enough to keep every core busy, and small enough for memory."""
    sizes = []
    for case in footprint.cases:
        _, across, columns = case.inverse.resizing.old
        sizes.append(across * columns * len(case.member.plan.outputs) * len(case.member.engines))
    return max(8, _SLAB // max(sizes))


def _rows(footprint: Footprint, bands: int) -> int:
    shape = footprint.cases[0].inverse.resizing.new
    return max(1, _ROWS * bands // (shape[1] * shape[2] * len(footprint.cases[0].member.plan.outputs)))


def _steps(stops: Iterator[int]) -> Iterator[tuple[int, int]]:
    before = 0
    for stop in stops:
        yield before, stop
        before = stop


def _needed(cases: Sequence[MemberCase], seconds_each: Sequence[float], chunking: Chunking) -> float:
    """Seconds for all windows of all bands."""
    return sum(case.windows(chunking) * each for case, each in zip(cases, seconds_each, strict=True))


def _copies(case: MemberCase, options: PredictOptions) -> int:
    return len(Blending.of(case.member.plan, options).copies)
