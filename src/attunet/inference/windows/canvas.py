"""Weighted sums of windows for the planes that windows still touch; finished planes are normalized and passed on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from attunet.data.slabs import cores, each_slab
from attunet.inference.windows.tiling import Tiling, Triple

__all__ = ["Canvas"]

Floats = npt.NDArray[np.float32]
Box = tuple[slice, slice, slice]

_LEAST_PARALLEL = 2**20  # number of values below which threads cost more than they save


class Canvas:
    """Sums of one network's outputs over a band of a grid, `depth` planes at a time.

    Args:
        tiling: the windows, whose first axis counts planes.
        band: along the second axis of the tiling.
        depth: number of planes in memory.
    """

    def __init__(self, tiling: Tiling, band: slice, depth: int) -> None:
        self.patch = tiling.patch
        self._axes = tiling.axes
        self._origin = [0, 0, 0]
        self._origin[tiling.axes[1]] = band.start
        self._size = list(tiling.shape)
        self._size[tiling.axes[0]], self._size[tiling.axes[1]] = depth, band.stop - band.start
        # Patches of one voxel along the planes' axis (slices) lie side by side in memory only when that axis is first.
        self._stacked = tiling.patch[tiling.axes[0]] == 1
        self._sums: dict[str, Floats] = {}
        self._rooms: dict[str, Floats] = {}
        self._weights = self._blank(1)
        self._touched = 0  # planes in memory before which all windows end; the others are 0

    def add(self, name: str, values: Floats, order: Sequence[int], start: Triple, weight: Floats) -> None:
        """Add a window of an output, channel by channel: sums[c] += values[order[c]] * weight.

        Args:
            name: name of the output.
            values: (C, *patch).
            order: the channel of `values` for each channel of the sums.
            start: the grid's voxel of the first value.
            weight: weights (*patch).
        """
        if name not in self._sums:
            self._sums[name] = self._blank(len(values))
        sums = self._sums[name]
        inside, part = self._overlap(start, weight.shape)
        shares = weight[part]

        def work(channels: slice) -> None:
            scaled = np.empty_like(shares)  # one channel at a time stays in the cache, unlike the product of all
            for index in range(len(order))[channels]:
                np.multiply(values[order[index]][part], shares, out=scaled)
                target = sums[index, *inside]
                target += scaled

        threads = cores() if values.size >= _LEAST_PARALLEL else 1
        each_slab(work, len(order), -(-len(order) // threads))

    def weigh(self, start: Triple, weight: Floats) -> None:
        """Record the weight of a window, once for all its mirrored copies."""
        inside, part = self._overlap(start, weight.shape)
        self._weights[0, *inside] += weight[part]

    def divided(
        self, planes: slice, copies: int, across: tuple[slice, slice] = (slice(None), slice(None))
    ) -> tuple[dict[str, Floats], npt.NDArray[np.bool_] | None]:
        """Every output of the first planes in memory, divided by the weights of all copies.

        Args:
            planes: planes in memory.
            copies: number of mirrored copies of each window.
            across: the part of the second axis, counted from the band's start, and of the third; all by default.
        Returns: by name (C, planes, second axis, third axis), valid until the next call; and the mask of voxels with a
            window, None if all have one. Elsewhere, all outputs are 0.
        """
        total = np.ascontiguousarray(self._upright(self._weights)[0, planes, *across] * np.float32(copies))
        covered = total > 0
        everywhere = bool(covered.all())
        if not everywhere:
            total[~covered] = 1
        results = {}
        for name, sums in sorted(self._sums.items()):
            transposed = self._upright(sums)[:, planes, *across]
            result = results[name] = self._room(name, transposed.shape)

            def work(channels: slice, transposed: Floats = transposed, result: Floats = result) -> None:
                for target, channel in zip(result[channels], transposed[channels], strict=True):
                    _lay_out(channel, target)
                    target /= total

            threads = cores() if transposed.size >= _LEAST_PARALLEL else 1
            each_slab(work, len(transposed), -(-len(transposed) // threads))
        return results, None if everywhere else covered

    def advance(self, planes: int) -> None:
        """Drop the first planes."""
        self._origin[self._axes[0]] += planes
        remaining = max(0, self._touched - planes)
        for memory in (self._weights, *self._sums.values()):
            for channel in self._upright(memory):
                channel[:remaining] = channel[planes : planes + remaining]
                channel[remaining : self._touched] = 0
        self._touched = remaining

    def _overlap(self, start: Triple, patch: tuple[int, ...]) -> tuple[Box, Box]:
        """The part of the planes in memory that a new window covers, and the corresponding part of the window."""
        lows = [low - origin for low, origin in zip(start, self._origin, strict=True)]
        ends = [min(low + edge, size) for low, edge, size in zip(lows, patch, self._size, strict=True)]
        self._touched = max(self._touched, ends[self._axes[0]])
        i, j, k = (slice(max(low, 0), end) for low, end in zip(lows, ends, strict=True))
        u, v, w = (slice(max(-low, 0), end - low) for low, end in zip(lows, ends, strict=True))
        return (i, j, k), (u, v, w)

    def _blank(self, channels: int) -> Floats:
        """Zeros (C, I, J, K) in the canvas's memory order."""
        if not self._stacked:
            return np.zeros((channels, *self._size), np.float32)
        stack = np.zeros((channels, *(self._size[axis] for axis in self._axes)), np.float32)
        return stack.transpose(0, *(self._axes.index(axis) + 1 for axis in range(3)))

    def _room(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Memory for the result, reused: fresh pages would take longer than the division."""
        room, size = self._rooms.get(name), math.prod(shape)
        if room is None or len(room) < size:
            room = self._rooms[name] = np.empty(size, np.float32)
        return room[:size].reshape(shape)

    def _upright(self, memory: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view with the planes' axis first."""
        return memory.transpose(0, *(axis + 1 for axis in self._axes))


def _lay_out(channel: Floats, result: Floats) -> None:
    """Copy (planes, second axis, third axis), whose planes may be the contiguous axis."""
    if abs(channel.strides[0]) >= abs(channel.strides[2]):
        result[:] = channel
        return
    for row in range(channel.shape[1]):
        # Copy in memory order first, then transpose within the cache: several times faster than in one step.
        result[:, row] = np.ascontiguousarray(channel[:, row].T).T
