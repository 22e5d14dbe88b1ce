"""Sliding-window inference: overlapping windows, Gaussian weights, mirrored copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, combinations
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.resample import resize
from attunet.inference.engines.protocol import Engine, EngineOutput
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.canvas import Canvas
from attunet.inference.windows.tiling import Tiling, Triple

__all__ = [
    "FILLED_BATCHES",
    "LOGITS",
    "Blending",
    "FinishedPlanes",
    "gaussian",
    "sliding_window",
    "stitch",
    "windows_to_fill",
]

Floats = npt.NDArray[np.float32]
Copy = tuple[int, ...]

FILLED_BATCHES = 4
"""Batches of windows between two finished slabs: enough that a partly filled last one hardly matters."""

LOGITS = "logits"
"""The name of the logits among the outputs of a window; the others are gates."""


@dataclass(frozen=True, kw_only=True)
class Blending:
    """The mirrored copies of a window, and the outputs to blend.

    Args:
        mirror_axes: axes to mirror, every combination of which is averaged.
        exchange: for an axis whose mirroring swaps left and right, the channel of each class in such a copy.
        attention: whether to blend the attention, too.
        strides: by gate, the image voxels along each axis for one coefficient (by default patch / grid, which is right
            if the network does not pad the patch).
    """

    mirror_axes: Copy = ()
    exchange: Mapping[int, Sequence[int]] = field(default_factory=dict)
    attention: bool = False
    strides: Mapping[str, Triple] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, options: PredictOptions) -> Self:
        """The blending of a plan's networks under these options."""
        return cls(
            mirror_axes=plan.mirror_axes if options.mirror else (),
            exchange={plan.left_right: plan.mirrored_outputs} if plan.mirror_swaps else {},
            attention=options.attention,
            strides=plan.level_strides,
        )

    @property
    def copies(self) -> list[Copy]:
        """The axes that are mirrored in each copy of a window, the plain one first."""
        axes = self.mirror_axes
        return list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))

    def order(self, copy: Copy, channels: int) -> list[int]:
        """The channel of a copy's logits for each class."""
        order = list(range(channels))
        for swapped in (exchanged for axis, exchanged in self.exchange.items() if axis in copy):
            order = [order[channel] for channel in swapped]
        return order


class FinishedPlanes(NamedTuple):
    """Planes that no further window touches, in the axes of the tiling.

    Args:
        first: index of the first.
        planes: number of planes.
        outputs: outputs of each engine, by name (`LOGITS` and gates), (C, planes, band, columns), once a window was
            run; valid until the next planes are requested.
        covered: mask (planes, band, columns) of voxels with a window, None if all have one; elsewhere, all outputs are
            0.
    """

    first: int
    planes: int
    outputs: list[dict[str, Floats]]
    covered: npt.NDArray[np.bool_] | None


def sliding_window(
    image: Floats,
    engines: Sequence[Engine],
    tiling: Tiling,
    blending: Blending,
    *,
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
        band: part of the tiling's second axis; None for all of it.
        planes: number of planes to pass on at once; None for all finished ones.
        fill: number of batches to fill first, if they need more than one row of windows.
        on_windows: called with the number of windows that an engine newly finished.
    Returns: the finished planes, in order.
    """
    band = band or slice(0, tiling.shape[tiling.axes[1]])
    copies = blending.copies
    groups = tiling.groups(band, windows_to_fill(engines, blending, fill))
    canvases = [Canvas(tiling, band, tiling.depth(groups)) for _ in engines]
    weight, first = gaussian(tiling.patch), 0
    for group in groups:
        for engine, canvas in zip(engines, canvases, strict=True):
            _run_windows(engine, canvas, image, group.starts, blending, on_windows)
        for start in group.starts:
            for canvas in canvases:
                canvas.weigh(start, weight)
        for low in range(first, group.done, planes or group.done):
            part = slice(low - first, min(low + (planes or group.done), group.done) - first)
            divided = [canvas.divided(part, len(copies)) for canvas in canvases]
            yield FinishedPlanes(low, part.stop - part.start, [outputs for outputs, _ in divided], divided[0][1])
        for canvas in canvases:
            canvas.advance(group.done - first)
        first = group.done


def stitch(image: Floats, engine: Engine, tiling: Tiling, blending: Blending) -> tuple[Floats, dict[str, Floats]]:
    """The output of one engine for a whole preprocessed image, in memory at once.

    Args:
        image: (C, I, J, K).
        engine: a network.
        tiling: the windows.
        blending: their mirrored copies and outputs.
    Returns: logits (classes, I, J, K) and, when blended, attention by gate (maps, I, J, K).
    """
    whole: dict[str, Floats] = {}
    for finished in sliding_window(image, [engine], tiling, blending):
        for name, array in finished.outputs[0].items():
            if name not in whole:
                whole[name] = np.empty((len(array), *tiling.shape), np.float32)
            transposed = whole[name].transpose(0, *(axis + 1 for axis in tiling.axes))
            transposed[:, finished.first : finished.first + array.shape[1]] = array
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


def _run_windows(
    engine: Engine,
    canvas: Canvas,
    image: Floats,
    starts: Sequence[Triple],
    blending: Blending,
    on_windows: Callable[[int], None],
) -> None:
    """All copies of some windows, added to the canvas in their order."""
    copies, patch = blending.copies, canvas.patch
    passes = [(start, copy) for start in starts for copy in copies]
    for first in range(0, len(passes), engine.batch):
        batch = passes[first : first + engine.batch]
        # Neither patches nor outputs stay in memory while the next batch is computed.
        _add_windows(canvas, engine(_patches(image, batch, patch)), batch, patch, blending)
        on_windows((first + len(batch)) // len(copies) - first // len(copies))


def _add_windows(
    canvas: Canvas, output: EngineOutput, batch: Sequence[tuple[Triple, Copy]], patch: Triple, blending: Blending
) -> None:
    weight = gaussian(patch)
    for name, array in {LOGITS: output.logits, **(output.attention if blending.attention else {})}.items():
        grown = _grown(array[..., None] if patch[2] == 1 else array, patch, blending.strides.get(name))
        for index, (start, copy) in enumerate(batch):
            values = np.flip(grown[index], _spatial(copy))
            order = blending.order(copy, len(values)) if name == LOGITS else range(len(values))
            canvas.add(name, values, order, start, weight)


def _patches(image: Floats, batch: Sequence[tuple[Triple, Copy]], patch: Triple) -> Floats:
    """(B, C, *patch), without the last axis for 2-D networks."""
    patches = np.stack([_patch(image, start, patch, copy) for start, copy in batch])
    return patches[..., 0] if patch[2] == 1 else patches


def _patch(image: Floats, start: Triple, patch: Triple, copy: Copy) -> Floats:
    """A mirrored window of the image; beyond the image, its edge is repeated."""
    ends = [low + edge for low, edge in zip(start, patch, strict=True)]
    inside = [slice(max(low, 0), end) for low, end in zip(start, ends, strict=True)]
    window = image[:, *inside]
    beyond = [(max(-low, 0), max(end - size, 0)) for low, end, size in zip(start, ends, image.shape[1:], strict=True)]
    if any(map(any, beyond)):
        window = np.pad(window, [(0, 0), *beyond], mode="edge")
    return np.flip(window, _spatial(copy))


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


def _spatial(axes: Copy) -> Copy:
    """The axes of a volume in an array (C, I, J, K)."""
    return tuple(axis + 1 for axis in axes)
