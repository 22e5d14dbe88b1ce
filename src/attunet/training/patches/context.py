"""The context of a case and of its patches: changed on purpose, so that no network trusts its localizer blindly.

A localizer finds its own training cases better than new ones. Cross-fitting removes most of that difference; these
changes remove what is left: a map that is a little beside the organ, too narrow, too wide, or missing.
"""

from __future__ import annotations

import numpy as np

from attunet.config import Plan, TrainingConfig
from attunet.data.coarse_map import CoarseMap, Floats, Triple
from attunet.errors import TrainingError, first_line
from attunet.training.store import StoredCase

__all__ = ["ContextChanges", "read_context"]

_SHIFT = 1.0
"""Largest shift along each axis, in voxels of the coarse grid."""
_EXPONENT = 2.0
"""Probabilities are raised to a power between the inverse of this (wider) and this (narrower)."""
_DROPPED = 0.2
"""Share of the changed patches that get no context at all: zeros."""


class ContextChanges:
    """Cuts the context of a patch and, with the probability `context_corruption` of the recipe, changes it.

    Args:
        plan: a plan, with a localizer or without.
        config: the recipe.
    """

    def __init__(self, plan: Plan, config: TrainingConfig) -> None:
        self._probability = config.context_corruption
        self._dims = plan.network.spatial_dims

    def __call__(self, context: CoarseMap, start: Triple, size: Triple, rng: np.random.Generator) -> Floats:
        """The context of a patch.

        Args:
            context: of its case.
            start: the first voxel of the patch on the fine grid.
            size: of the patch in voxels.
            rng: decides on the changes.
        Returns: float32 (C, *size).
        """
        if rng.random() >= self._probability:
            return context.window(start, size)
        if rng.random() < _DROPPED:
            return np.zeros((len(context.values), *size), np.float32)
        step = np.divide(context.shape, context.values.shape[1:])
        shift = np.rint(rng.uniform(-_SHIFT, _SHIFT, 3) * step).astype(int)
        shift[self._dims :] = 0  # the slices of a 2-D network are independent
        i, j, k = (int(place) for place in np.add(start, shift))
        exponent = _EXPONENT ** rng.uniform(-1, 1)
        return np.asarray(context.window((i, j, k), size) ** np.float32(exponent), np.float32)


def read_context(case: StoredCase) -> CoarseMap:
    """The context of a case on the grid of its label.

    Raises: TrainingError when it has none, or its file is damaged.
    """
    if case.context is None:
        raise TrainingError(f"case {case.id} has no context", hint="train the localizers first")
    i, j, k = case.label().shape
    try:
        return CoarseMap(np.load(case.context, allow_pickle=False), (i, j, k))
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(
            f"the context of case {case.id}, {case.context}, cannot be read: {first_line(error)}",
            hint="delete the file and continue with --resume, which computes it again",
        ) from error
