"""The Dice of a large validation case, estimated from a sample of its windows.

All windows of a CT of a whole trunk take longer than many a training. A window with a label and one without are drawn
apart, because most of a large case is background, and each counts for as many windows as it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.coarse_map import CoarseMap
from attunet.data.preprocess import IGNORED
from attunet.data.volume import Array
from attunet.inference.engines.protocol import Engine
from attunet.inference.windows.blending import Blending, Feed
from attunet.inference.windows.tiling import Tiling, Triple

__all__ = ["MOST_WINDOWS", "SAMPLED_WINDOWS", "sampled_outputs", "window_sample"]

MOST_WINDOWS = 1024
"""Windows, which overlap by half, of the largest case of which all are run."""
SAMPLED_WINDOWS = 128
"""Windows side by side that are run of a larger case."""

Floats = npt.NDArray[np.float32]


def window_sample(label: Array, patch: Triple) -> dict[Triple, float]:
    """A sample of the windows of a large case, the same at every validation.

    Args:
        label: class indices (I, J, K) on the model grid.
        patch: size of a window in voxels.
    Returns: the first voxel of each window, and the number of windows that it stands for.
    """
    tiling = Tiling.of(_shape(label), patch, 1.0)
    shown: list[Triple] = []
    empty: list[Triple] = []
    for start in tiling:
        window = label[tiling.box(start)]
        (shown if ((window != 0) & (window != IGNORED)).any() else empty).append(start)
    half = SAMPLED_WINDOWS // 2
    most = max(half, SAMPLED_WINDOWS - len(empty)), max(half, SAMPLED_WINDOWS - len(shown))
    drawn = (_evenly(windows, count) for windows, count in zip((shown, empty), most, strict=True))
    return dict(chain.from_iterable(drawn))


def sampled_outputs(
    image: Array, label: Array, engine: Engine, plan: Plan, context: CoarseMap | None
) -> Iterator[tuple[Floats, Array, float]]:
    """Run a network on the sampled windows of a case.

    Args:
        image: the prepared image (C, I, J, K); only the windows are read.
        label: class indices (I, J, K).
        engine: the network.
        plan: its plan.
        context: of a cascade; None without.
    Returns: for each window, the logits (outputs, *window) and the label of its part of the grid, and the number of
        windows that it stands for.
    """
    feed = Feed(image, plan.patch_size, Blending(), context)
    for start, weight in window_sample(label, plan.patch_size).items():
        logits = engine(feed.windows([(start, ())])).logits[0]
        logits = logits[..., None] if plan.patch_size[2] == 1 else logits
        part = label[*(slice(max(low, 0), low + edge) for low, edge in zip(start, plan.patch_size, strict=True))]
        inside = (slice(max(-low, 0), max(-low, 0) + size) for low, size in zip(start, part.shape, strict=True))
        yield logits[:, *inside], part, weight


def _evenly(windows: Sequence[Triple], most: int) -> list[tuple[Triple, float]]:
    count = min(len(windows), most)
    places = np.linspace(0, len(windows) - 1, count).round().astype(int) if count else ()
    return [(windows[place], len(windows) / count) for place in places]


def _shape(label: Array) -> Triple:
    i, j, k = label.shape
    return i, j, k
