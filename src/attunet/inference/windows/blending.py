"""The windows that enter an engine: mirrored copies of the image's, with the context of a cascade appended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from attunet.config import Plan
from attunet.data.coarse_map import CoarseMap
from attunet.inference.prediction import PredictOptions
from attunet.inference.windows.tiling import Triple

__all__ = ["Blending", "Copy", "Feed", "spatial_axes"]

Floats = npt.NDArray[np.float32]

Copy = tuple[int, ...]
"""The axes that are mirrored in a copy of a window."""


@dataclass(frozen=True, kw_only=True)
class Blending:
    """The mirrored copies of a window, and the outputs to blend.

    Args:
        mirror_axes: axes to mirror, every combination of which is averaged.
        exchange: for an axis whose mirroring swaps left and right, the channel of each class in such a copy.
        context: for the same axis, the channel of each context channel in such a copy.
        attention: whether to blend the attention, too.
        strides: by gate, the image voxels along each axis for one coefficient (by default patch / grid, which is right
            if the network does not pad the patch).
    """

    mirror_axes: Copy = ()
    exchange: Mapping[int, Sequence[int]] = field(default_factory=dict)
    context: Mapping[int, Sequence[int]] = field(default_factory=dict)
    attention: bool = False
    strides: Mapping[str, Triple] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, options: PredictOptions) -> Self:
        """The blending of a plan's networks under these options."""
        return cls(
            mirror_axes=() if options.mirror is False else plan.mirror_axes,
            exchange={plan.left_right: plan.mirrored_outputs} if plan.mirror_swaps else {},
            context={plan.left_right: plan.mirrored_context} if plan.mirror_swaps else {},
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
        return _exchanged(self.exchange, copy, channels)

    def context_order(self, copy: Copy, channels: int) -> list[int]:
        """The channel of the context for each context channel of a copy."""
        return _exchanged(self.context, copy, channels)


class Feed(NamedTuple):
    """What one engine's windows are cut from.

    Args:
        image: (C, I, J, K).
        patch: size of a window in voxels.
        blending: the mirrored copies.
        context: the channels that are appended to those of the image; None for none.
    """

    image: Floats
    patch: Triple
    blending: Blending
    context: CoarseMap | None

    def windows(self, batch: Sequence[tuple[Triple, Copy]]) -> Floats:
        """(B, C, *patch), without the last axis for 2-D networks."""
        contexts: dict[Triple, Floats] = {}  # the copies of a window share theirs
        if self.context is not None:
            contexts = {start: self.context.window(start, self.patch) for start in {start for start, _ in batch}}
        windows = []
        for start, copy in batch:
            window = _patch(self.image, start, self.patch, copy)
            if (context := contexts.get(start)) is not None:
                chosen = context[self.blending.context_order(copy, len(context))]
                window = np.concatenate([window, np.flip(chosen, spatial_axes(copy))])
            windows.append(window)
        patches = np.stack(windows)
        return patches[..., 0] if self.patch[2] == 1 else patches


def spatial_axes(axes: Copy) -> Copy:
    """The axes of a volume in an array (C, I, J, K)."""
    return tuple(axis + 1 for axis in axes)


def _patch(image: Floats, start: Triple, patch: Triple, copy: Copy) -> Floats:
    """A mirrored window of the image; beyond the image, its edge is repeated."""
    ends = [low + edge for low, edge in zip(start, patch, strict=True)]
    inside = [slice(max(low, 0), end) for low, end in zip(start, ends, strict=True)]
    window = image[:, *inside]
    beyond = [(max(-low, 0), max(end - size, 0)) for low, end, size in zip(start, ends, image.shape[1:], strict=True)]
    if any(map(any, beyond)):
        window = np.pad(window, [(0, 0), *beyond], mode="edge")
    return np.flip(window, spatial_axes(copy))


def _exchanged(exchanges: Mapping[int, Sequence[int]], copy: Copy, channels: int) -> list[int]:
    order = list(range(channels))
    for swapped in (exchanged for axis, exchanged in exchanges.items() if axis in copy):
        order = [order[channel] for channel in swapped]
    return order
