"""Ensembles: members with different grids, averaged on rows of the original grid, row by row in step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.data.restore import Band
from attunet.data.slabs import row_chunks
from attunet.inference.buffers import OutputBuffers
from attunet.inference.member import Chunking, MemberCase
from attunet.inference.outputs import DiceSums, class_indices, normalized
from attunet.inference.prediction import PredictOptions

__all__ = ["average_members"]

Floats = npt.NDArray[np.float32]


class _Rows(NamedTuple):
    """Probabilities (C, rows, band, K) on the original grid in the axes of the windows; index of the first row."""

    first: int
    array: Floats

    @property
    def stop(self) -> int:
        return self.first + int(self.array.shape[1])


def average_members(
    cases: Sequence[MemberCase],
    options: PredictOptions,
    chunking: Chunking,
    buffers: OutputBuffers,
    on_windows: Callable[[int], None],
) -> DiceSums:
    """Average members on rows of the original grid, band by band, and write the results.

    Args:
        cases: the case of each member; all windows run along the same axis of the original grid.
        options: options of the prediction.
        chunking: how the case is divided.
        buffers: output buffers for the results.
        on_windows: called with the number of newly finished windows.
    Returns: the sums of the expected Dice.
    """
    first, *others = (case.inverse for case in cases)
    original = [first.record.axes[axis] for axis in first.axes]
    permuted = [tuple(inverse.record.axes.index(axis) for axis in original) for inverse in others]
    assert [case.tiling.axes for case in cases[1:]] == permuted, "members run along different axes"
    mask = first.transposed(buffers.mask)[0]
    probabilities = None if buffers.probabilities is None else first.transposed(buffers.probabilities.array)
    sums = DiceSums.zero(buffers.plan)
    for bands in zip(*(case.bands(chunking) for case in cases), strict=True):
        across = bands[0].across
        pairs = zip(cases, bands, strict=True)
        streams = [_whole_rows(case, band, options, chunking, buffers, on_windows) for case, band in pairs]
        for part, average in _averages(streams, len(mask)):
            buffers.write_mask(mask[:, across], part, class_indices(average, buffers.plan))
            sums += DiceSums.of_all(average, buffers.plan)
            if probabilities is not None and buffers.probabilities is not None:
                probabilities[:, part, across] = average
                buffers.probabilities.release()
    return sums


def _averages(streams: Sequence[Iterator[_Rows]], count: int) -> Iterator[tuple[slice, Floats]]:
    """Rows of the original grid in order up to `count`, with the mean of the streams as far as all have advanced."""
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
    case: MemberCase,
    band: Band,
    options: PredictOptions,
    chunking: Chunking,
    buffers: OutputBuffers,
    on_windows: Callable[[int], None],
) -> Iterator[_Rows]:
    """All rows of the original grid in a band, a few at a time, including the background around the content."""
    inverse, plan, most = case.inverse, case.member.plan, chunking.rows
    start, before, left = inverse.start
    rows, _, columns = (0 if band.empty else size for size in inverse.resizing.new)
    whole = inverse.transposed(buffers.mask).shape[1:]
    low = before - band.across.start
    box = (slice(low + band.targets.start, low + band.targets.stop), slice(left, left + columns))

    def surrounded(part: slice, content: Floats | None = None) -> _Rows:
        width = band.across.stop - band.across.start
        result = np.zeros((len(plan.outputs), part.stop - part.start, width, whole[2]), np.float32)
        if content is not None:
            result[:, :, *box] = content
        return _Rows(part.start, normalized(result, plan))

    for chunk in row_chunks(slice(0, start), most):
        yield surrounded(chunk)
    for slab, ready in case.slabs(band, options, chunking, on_windows):
        buffers.write_attention(case, slab, band, ready, most)
        for chunk in row_chunks(ready, most):
            content = inverse.interpolate(slab.probabilities, band, chunk)
            yield surrounded(slice(start + chunk.start, start + chunk.stop), content)
    for chunk in row_chunks(slice(start + rows, whole[0]), most):
        yield surrounded(chunk)
