"""A network over a volume larger than its patch: overlapping windows, Gaussian weights, mirrored copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from attunet.inference.engines.protocol import Engine
from attunet.inference.windows.canvas import Canvas
from attunet.inference.windows.running import Windows, gaussian, run_windows, windows_to_fill
from attunet.inference.windows.tiling import Tiling, Triple

__all__ = ["FILLED_BATCHES", "Finished", "Stitched", "sliding_window", "sweep"]

Floats = npt.NDArray[np.float32]

FILLED_BATCHES = 4  # that the windows between two finished slabs make up: the last, part-filled one hardly counts


@dataclass(frozen=True)
class Stitched:
    """Logits (classes, I, J, K) and, when asked for, attention by gate (maps, I, J, K) on the model grid."""

    logits: Floats
    attention: dict[str, Floats]


class Finished(NamedTuple):
    """Planes that no further window touches, in the axes of the tiling.

    Args: index of the first, and how many; of each engine, by name ("logits" and gates), (C, planes, band, columns),
        once a window was run, valid until the next planes are asked for; where any was (planes, band, columns), None
        for everywhere: elsewhere all outputs are 0.
    """

    first: int
    planes: int
    outputs: list[dict[str, Floats]]
    covered: npt.NDArray[np.bool_] | None


def sliding_window(
    image: Floats,
    engine: Engine,
    patch: Triple,
    *,
    classes: int,
    step: float = 0.5,
    mirror_axes: tuple[int, ...] = (),
    exchange: Mapping[int, Sequence[int]] | None = None,
    attention: bool = False,
    strides: Mapping[str, Triple] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Stitched:
    """Run the engine over (C, I, J, K) and blend the windows with Gaussian weights: all of `sweep`, collected.

    Args: the patch in voxels (a depth of 1 means a 2-D network fed slice by slice); the number of classes; the step
        between windows as a share of the patch; the others as in `Windows`.
    """
    i, j, k = image.shape[1:]
    tiling = Tiling.of((i, j, k), patch, step)
    how = Windows(mirror_axes, exchange or {}, attention, strides or {}, advance)
    whole = {"logits": np.empty((classes, i, j, k), np.float32)}
    for slab in sweep(image, [engine], tiling, how):
        for name, array in slab.outputs[0].items():
            if name not in whole:
                whole[name] = np.empty((len(array), i, j, k), np.float32)
            upright = whole[name].transpose(0, *(axis + 1 for axis in tiling.axes))
            upright[:, slab.first : slab.first + array.shape[1]] = array
    logits = whole.pop("logits")
    return Stitched(logits, dict(sorted(whole.items())))


def sweep(
    image: Floats,
    engines: Sequence[Engine],
    tiling: Tiling,
    how: Windows,
    *,
    band: slice | None = None,
    planes: int | None = None,
    fill: int = FILLED_BATCHES,
) -> Iterator[Finished]:
    """Run engines over the windows of a prepared image (C, I, J, K), passing on planes as soon as they are finished.

    Of a band of the tiling's second axis, with the windows that touch it, the numbers are those of the whole.
    Args: the engines, all of one patch; the band; how many planes to pass on at once, by default all that are finished;
        how many batches to fill before, where that takes more than one row of windows.
    """
    band = band or slice(0, tiling.shape[tiling.axes[1]])
    copies = how.copies
    groups = tiling.groups(band, windows_to_fill(engines, how, fill))
    canvases = [Canvas(tiling, band, tiling.depth(groups)) for _ in engines]
    weight, first = gaussian(tiling.patch), 0
    for group in groups:
        for engine, canvas in zip(engines, canvases, strict=True):
            run_windows(engine, canvas, image, group.starts, weight, how)
        for start in group.starts:
            for canvas in canvases:
                canvas.weigh(start, weight)
        for low in range(first, group.done, planes or group.done):
            part = slice(low - first, min(low + (planes or group.done), group.done) - first)
            divided = [canvas.divided(part, len(copies)) for canvas in canvases]
            yield Finished(low, part.stop - part.start, [outputs for outputs, _ in divided], divided[0][1])
        for canvas in canvases:
            canvas.advance(group.done - first)
        first = group.done
