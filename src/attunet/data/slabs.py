"""Process a grid slab by slab along its first axis, on every core, in the memory of a few slabs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from attunet.data.volume import Array

__all__ = ["available_cores", "core_limit", "cores", "each_slab", "limit_cores", "packed", "row_chunks"]

MOST_THREADS = 8  # more threads would wait for the interpreter lock, and each needs memory


_limits: list[int] = []


def limit_cores(count: int) -> None:
    """Use at most this many cores in this process, one of several workers on a machine; before a model is loaded."""
    _limits[:] = [count]


def core_limit() -> int | None:
    """The number of cores that `limit_cores` set; None for all."""
    return _limits[0] if _limits else None


def available_cores() -> tuple[int, ...]:
    """The indices of the cores that the system lets this process use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not everywhere
    return tuple(sorted(allowed(0))) if allowed else tuple(range(os.cpu_count() or 1))


def cores() -> int:
    """The number of cores this process uses at most: those available, or fewer after `limit_cores`."""
    count = len(available_cores())
    return min(count, core_limit() or count)


def each_slab(work: Callable[[slice], None], rows: int, size: int) -> None:
    """Call `work` with slices of `size` or less that make up range(rows), in threads; returns when all are done.

    Args:
        work: called with a slab, safe to be called from several threads for different slabs.
        rows: number of rows.
        size: of a slab at most.
    Raises: what `work` raises.
    """
    slabs = [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
    threads = min(len(slabs), cores(), MOST_THREADS)
    if threads < 2:
        for slab in slabs:
            work(slab)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, slabs):
            pass


def packed(array: Array) -> Array:
    """The array (I, J, K), contiguous; itself when it is so already.

    In files the first axis is contiguous, in memory usually the last; arrays in the other order are copied tile by
    tile.
    """
    if abs(array.strides[0]) >= abs(array.strides[2]):
        return np.ascontiguousarray(array)
    result = np.empty(array.shape, dtype=array.dtype)
    for row in range(array.shape[1]):
        # Copy whole cache lines first, then transpose within the cache: several times faster than in one step.
        result[:, row] = np.ascontiguousarray(array[:, row].T).T
    return result


def row_chunks(rows: slice, most: int) -> Iterator[slice]:
    """Consecutive parts of the rows, at most `most` each."""
    for start in range(rows.start, rows.stop, most):
        yield slice(start, min(start + most, rows.stop))
