"""The localizers of a fold: their probabilities on the coarse grid, and the region where the fine network looks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from attunet.bundle import Skipping
from attunet.config import Plan
from attunet.data.coarse_map import foreground_probability
from attunet.inference.engines.protocol import Engine
from attunet.inference.outputs import activate
from attunet.inference.windows.blending import Blending
from attunet.inference.windows.region import Region
from attunet.inference.windows.sliding_window import stitch
from attunet.inference.windows.tiling import Tiling

__all__ = ["locate", "search_region", "skipping_region"]

Floats = npt.NDArray[np.float32]
Triple = tuple[int, int, int]

_STEP = 0.5


def locate(engines: Sequence[Engine], plan: Plan, image: Floats) -> Floats:
    """The mean probabilities of the localizers of a fold, without mirroring.

    Args:
        engines: of the fold's localizers.
        plan: the plan of the fine network, which has a localizer.
        image: the image prepared for the coarse grid, `plan.coarse.preprocessing`: (C, i, j, k).
    Returns: float32 (outputs, i, j, k).
    Raises: ConfigError when the plan has no localizer.
    """
    coarse = plan.coarse
    shape = image.shape[1], image.shape[2], image.shape[3]
    tiling = Tiling.of(shape, coarse.patch_size, _STEP)
    total: Floats = np.zeros((len(plan.outputs), *shape), np.float32)
    for engine in engines:
        total += activate(stitch(image, engine, tiling, Blending())[0], coarse)
    total /= np.float32(len(engines))
    return total


def search_region(
    probability: Floats, spacing_mm: Sequence[float], threshold: float, margin_mm: float, shape: Triple
) -> Region:
    """The voxels of the fine grid near those that probably have a label.

    Args:
        probability: of any label, on the coarse grid (i, j, k).
        spacing_mm: voxel size of the coarse grid.
        threshold: least probability.
        margin_mm: Euclidean distance by which these voxels are dilated.
        shape: shape of the fine grid.
    Returns: the region; empty when no voxel reaches the threshold.
    """
    from scipy.ndimage import distance_transform_edt

    found = probability >= threshold
    if not found.any() or margin_mm <= 0:
        return Region(found, shape)
    return Region(distance_transform_edt(~found, sampling=spacing_mm) <= margin_mm, shape)


def skipping_region(plan: Plan, probabilities: Floats, skipping: Skipping, shape: Triple) -> Region:
    """`search_region` with the threshold and the margin of a fold.

    Args:
        plan: the plan of the fine network.
        probabilities: of the fold's localizers, as from `locate`.
        skipping: its threshold and margin.
        shape: shape of the fine grid.
    Returns: the region.
    Raises: ConfigError when the plan has no localizer.
    """
    probability = foreground_probability(plan, probabilities)
    spacing = plan.coarse.preprocessing.spacing
    return search_region(probability, spacing, skipping.threshold, skipping.margin, shape)
