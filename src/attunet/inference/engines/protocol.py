"""The interface of all engines: a network applied to a batch of patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from attunet.config import Plan

__all__ = ["Engine", "EngineOutput", "window_shape"]

Floats = npt.NDArray[np.float32]


class EngineOutput(NamedTuple):
    """Logits (B, classes, *patch) and attention by gate (B, maps, *level grid) in [0, 1]."""

    logits: Floats
    attention: dict[str, Floats]


class Engine(Protocol):
    """Runs one fold's network on a batch of patches."""

    name: str
    batch: int

    def __call__(self, patches: Floats, attention: Mapping[str, Floats] | None = None) -> EngineOutput:
        """Compute a batch of patches.

        Args:
            patches: (B, C, *patch), B at most `batch`.
            attention: coefficients (B, maps, *level grid) that replace those of the named gates before they scale the
                skip connection; they are returned, too.
        Returns: logits and attention.
        Raises: DataError for an unknown gate or another shape, EngineError when the engine cannot replace coefficients.
        """
        ...


def window_shape(plan: Plan) -> tuple[int, ...]:
    """The input shape (C, *patch) of the plan's networks, without the last axis for 2-D ones."""
    return (plan.network.in_channels, *plan.patch_size[: plan.network.spatial_dims])
