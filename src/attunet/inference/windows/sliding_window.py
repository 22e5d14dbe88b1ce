"""Sliding-window inference: overlapping windows, Gaussian weights, mirrored copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.data.coarse_map import CoarseMap
from attunet.data.resample import resize
from attunet.inference.engines.protocol import Engine, EngineOutput
from attunet.inference.windows.blending import Blending, Copy, Feed, spatial_axes
from attunet.inference.windows.canvas import Canvas
from attunet.inference.windows.tiling import Tiling, Triple

__all__ = [
    "FILLED_BATCHES",
    "LOGITS",
    "FinishedPlanes",
    "gaussian",
    "sliding_window",
    "stitch",
    "windows_to_fill",
]

Floats = npt.NDArray[np.float32]

FILLED_BATCHES = 4
"""Batches of windows between two finished slabs: enough that a partly filled last one hardly matters."""

LOGITS = "logits"
"""The name of the logits among the outputs of a window; the others are gates."""


class FinishedPlanes(NamedTuple):
    """Planes that no further window touches, in the axes of the tiling.

    Args:
        first: index of the first.
        planes: number of planes.
        across: the box that holds all voxels with an output: part of the band, counted from its start, and of the
            columns. All of both, unless the tiling has a region.
        outputs: outputs of each engine, by name (`LOGITS` and gates), (C, planes, *across), once a window was run;
            valid until the next planes are requested.
        covered: mask (planes, *across) of voxels with a window, and inside the region of the tiling; None if that is
            all of them. Elsewhere is background.
    """

    first: int
    planes: int
    across: tuple[slice, slice]
    outputs: list[dict[str, Floats]]
    covered: npt.NDArray[np.bool_] | None


def sliding_window(
    image: Floats,
    engines: Sequence[Engine],
    tiling: Tiling,
    blending: Blending,
    *,
    contexts: Sequence[CoarseMap | None] = (),
    band: slice | None = None,
    planes: int | None = None,
    fill: int = FILLED_BATCHES,
    on_windows: Callable[[int], None] = lambda _: None,
) -> Iterator[FinishedPlanes]:
    """Run engines over the windows of a prepared image, passing on planes as soon as they are finished.

    The numbers in a band of the tiling's second axis, from the windows that touch it, equal those of the whole grid.
    Args:
        image: (C, I, J, K).
        engines: engines with the same patch.
        tiling: the windows.
        blending: their mirrored copies and outputs.
        contexts: for each engine, the channels that are appended to each window of the image; none by default.
        band: part of the tiling's second axis; None for all of it.
        planes: number of planes to pass on at once; None for all finished ones.
        fill: number of batches to fill first, if they need more than one row of windows.
        on_windows: called with the number of windows that an engine newly finished.
    Returns: the finished planes, in order.
    """
    band = band or slice(0, tiling.shape[tiling.axes[1]])
    groups = tiling.groups(band, windows_to_fill(engines, blending, fill))
    feeds = [Feed(image, tiling.patch, blending, context) for _, context in zip_longest(engines, contexts)]
    canvases = [Canvas(tiling, band, tiling.depth(groups)) for _ in engines]
    weight, first = gaussian(tiling.patch), 0
    for group in groups:
        for engine, canvas, feed in zip(engines, canvases, feeds, strict=True):
            _run_windows(engine, canvas, feed, group.starts, on_windows)
        for start in group.starts:
            for canvas in canvases:
                canvas.weigh(start, weight)
        for low in range(first, group.done, planes or group.done):
            part = slice(low, min(low + (planes or group.done), group.done))
            yield _finished(canvases, tiling, band, part, first, len(blending.copies))
        for canvas in canvases:
            canvas.advance(group.done - first)
        first = group.done


def stitch(
    image: Floats, engine: Engine, tiling: Tiling, blending: Blending, context: CoarseMap | None = None
) -> tuple[Floats, dict[str, Floats]]:
    """The output of one engine for a whole preprocessed image, in memory at once.

    Args:
        image: (C, I, J, K).
        engine: a network.
        tiling: the windows.
        blending: their mirrored copies and outputs.
        context: the channels that are appended to each window; None for none.
    Returns: logits (classes, I, J, K) and, when blended, attention by gate (maps, I, J, K); 0 where no window was run.
    """
    whole: dict[str, Floats] = {}
    for finished in sliding_window(image, [engine], tiling, blending, contexts=[context]):
        for name, array in finished.outputs[0].items():
            if name not in whole:
                whole[name] = np.zeros((len(array), *tiling.shape), np.float32)
            transposed = whole[name].transpose(0, *(axis + 1 for axis in tiling.axes))
            transposed[:, finished.first : finished.first + array.shape[1], *finished.across] = array
    logits = whole.pop(LOGITS)
    return logits, dict(sorted(whole.items()))


def windows_to_fill(engines: Sequence[Engine], blending: Blending, batches: int) -> int:
    """The number of windows that, with their mirrored copies, fill the given number of batches.

    Args:
        engines: engines that run the windows.
        blending: their mirrored copies.
        batches: number of batches to fill.
    Returns: at least 1.
    """
    return -(-batches * max(engine.batch for engine in engines) // len(blending.copies))


@cache
def gaussian(patch: Triple, sigma: float = 1 / 8) -> Floats:
    """Gaussian weights (I, J, K) around the window's centre; sigma as a fraction of the patch; never zero."""
    axes = [np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / max(size * sigma, 1e-3)) ** 2) for size in patch]
    weight = np.einsum("i,j,k->ijk", *axes)
    return np.asarray(np.maximum(weight / weight.max(), 1e-3), np.float32)


def _finished(
    canvases: Sequence[Canvas], tiling: Tiling, band: slice, planes: slice, first: int, copies: int
) -> FinishedPlanes:
    """Finished planes of the grid, the first plane in memory being `first`; nothing outside the region is computed."""
    count, region = planes.stop - planes.start, tiling.region
    across = slice(0, band.stop - band.start), slice(0, tiling.shape[tiling.axes[2]])
    inside = None
    if region is not None:
        across = region.bounds(planes, band, tiling.axes)
        if across[0].start == across[0].stop:
            return FinishedPlanes(planes.start, count, across, [{} for _ in canvases], None)
        rows = slice(band.start + across[0].start, band.start + across[0].stop)
        inside = region.part(planes, rows, across[1], tiling.axes)
    held = slice(planes.start - first, planes.stop - first)
    divided = [canvas.divided(held, copies, across) for canvas in canvases]
    covered = divided[0][1]
    if inside is not None and not inside.all():
        covered = inside if covered is None else covered & inside
    return FinishedPlanes(planes.start, count, across, [outputs for outputs, _ in divided], covered)


def _run_windows(
    engine: Engine, canvas: Canvas, feed: Feed, starts: Sequence[Triple], on_windows: Callable[[int], None]
) -> None:
    """All copies of some windows, added to the canvas in their order."""
    copies = feed.blending.copies
    passes = [(start, copy) for start in starts for copy in copies]
    for first in range(0, len(passes), engine.batch):
        batch = passes[first : first + engine.batch]
        # Neither patches nor outputs stay in memory while the next batch is computed.
        _add_windows(canvas, engine(feed.windows(batch)), batch, feed.patch, feed.blending)
        on_windows((first + len(batch)) // len(copies) - first // len(copies))


def _add_windows(
    canvas: Canvas, output: EngineOutput, batch: Sequence[tuple[Triple, Copy]], patch: Triple, blending: Blending
) -> None:
    weight = gaussian(patch)
    for name, array in {LOGITS: output.logits, **(output.attention if blending.attention else {})}.items():
        grown = _grown(array[..., None] if patch[2] == 1 else array, patch, blending.strides.get(name))
        for index, (start, copy) in enumerate(batch):
            values = np.flip(grown[index], spatial_axes(copy))
            order = blending.order(copy, len(values)) if name == LOGITS else range(len(values))
            canvas.add(name, values, order, start, weight)


def _grown(array: Floats, patch: Triple, stride: Triple | None) -> Floats:
    """An output (B, maps, *level grid) on the grid of the patch, as the network itself resizes.

    The network pads a patch that its strides do not divide, so the last coefficients reach beyond the patch.
    """
    if array.shape[2:] == patch:
        return array
    covered = patch
    if stride and all(-(-n // s) == size for n, s, size in zip(patch, stride, array.shape[2:], strict=True)):
        i, j, k = (size * s for size, s in zip(array.shape[2:], stride, strict=True))
        covered = i, j, k
    i, j, k = patch
    return resize(array, covered)[:, :, :i, :j, :k]
