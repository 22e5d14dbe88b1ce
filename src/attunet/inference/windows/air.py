"""Windows that hold nothing but air: they are left out where an audit on labelled cases found that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from attunet.bundle import FoldFiles
from attunet.bundle.air import load_air
from attunet.data.volume import Array
from attunet.inference.windows.tiling import Tiling, Triple

__all__ = ["air_level", "height_of_content", "without_air"]

Floats = npt.NDArray[np.float32]
Box = tuple[slice, slice, slice]

_SAMPLE = 4  # every fourth voxel along each axis shows most windows with content at once


def air_level(folds: Iterable[FoldFiles]) -> float | None:
    """The level up to which all folds agree that a window is air; None when one has found no such level.

    Raises: BundleError as `load_air`.
    """
    known = [load_air(fold) for fold in folds]
    levels = [air.level for air in known if air is not None and air.used]
    return min(levels) if levels and len(levels) == len(known) else None


def without_air(tiling: Tiling, image: Floats, level: float | None) -> Tiling:
    """The windows of a prepared image (C, I, J, K) in which a channel rises above its minimum by more than the level.

    Of an image that is nothing but air, the first window is kept.
    """
    if level is None:
        return tiling
    lowest = image.min(axis=(1, 2, 3))
    air = [start for start in tiling if _height(image, _box(tiling, start), lowest, level) <= level]
    return tiling.without(air[1:] if len(air) == len(tiling) else air)


def height_of_content(image: Floats, label: Array, tiling: Tiling) -> float:
    """The least height above its minimum that the image reaches in any window with a label; infinite without labels.

    Args: a prepared image (C, I, J, K) and the class indices (I, J, K) of its label, background 0.
    """
    lowest = image.min(axis=(1, 2, 3))
    boxes = (_box(tiling, start) for start in tiling)
    return min((_height(image, box, lowest) for box in boxes if label[box].any()), default=float("inf"))


def _height(image: Floats, box: Box, lowest: Floats, enough: float = float("inf")) -> float:
    """How far any channel rises above its minimum in a window; or less, once that is above `enough`."""
    heights = []
    for channel, low in zip(image, lowest, strict=True):
        window = channel[box]
        height = float(window[::_SAMPLE, ::_SAMPLE, ::_SAMPLE].max() - low)
        heights.append(height if height > enough else float(window.max() - low))
    return max(heights)


def _box(tiling: Tiling, start: Triple) -> Box:
    i, j, k = (slice(max(low, 0), low + edge) for low, edge in zip(start, tiling.patch, strict=True))
    return i, j, k
