"""The context of a cascade, replaced: what its networks do when their localizers say less, or another place.

The region in which windows are run is not part of this: ablations run every window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from attunet.data.coarse_map import CoarseMap
from attunet.errors import ConfigError
from attunet.gates import LOCALIZER_MAP
from attunet.inference.member import Member
from attunet.inference.segmenter import Segmenter

__all__ = [
    "CONTEXT_REPLACEMENTS",
    "SHIFT",
    "contexts_of",
    "localizers_of",
    "prefixed",
    "with_context_replaced",
]

SHIFT = 4
"""Voxels of the coarse grid by which a context is shifted along each axis: several times what training gets used to."""


def prefixed(segmenter: Segmenter) -> list[tuple[str, Member]]:
    """The members and the prefixes of their gates' names: MEMBER/ for an ensemble, else empty."""
    several = len(segmenter.members) > 1
    return [(f"{member.name}/" if several else "", member) for member in segmenter.members]


def localizers_of(segmenter: Segmenter) -> tuple[str, ...]:
    """The maps of localizers in the predictions of a segmenter: "localizer", of an ensemble MEMBER/localizer."""
    return tuple(f"{prefix}{LOCALIZER_MAP}" for prefix, member in prefixed(segmenter) if member.localizers)


def contexts_of(segmenter: Segmenter) -> tuple[str, ...]:
    """Those of `localizers_of` that the networks see as context; others only decide which windows are run."""
    return tuple(f"{prefix}{LOCALIZER_MAP}" for prefix, member in prefixed(segmenter) if member.plan.context)


def with_context_replaced(segmenter: Segmenter, replacement: str, name: str) -> Segmenter:
    """Replace the context of a member, in every fold and channel.

    Args:
        segmenter: the model.
        replacement: a key of `CONTEXT_REPLACEMENTS`.
        name: one of `contexts_of`.
    Returns: the altered model.
    Raises: ConfigError for an unknown replacement, or a member without context.
    """
    if replacement not in CONTEXT_REPLACEMENTS:
        known = ", ".join(CONTEXT_REPLACEMENTS)
        raise ConfigError(f"replacement {replacement!r} of a context is unknown", hint=f"choose one of {known}")
    if name not in contexts_of(segmenter):
        known = ", ".join(contexts_of(segmenter)) or "none"
        raise ConfigError(f"the model has no context {name}, its contexts: {known}", hint="name one of them")
    revise = _REVISIONS[replacement]
    members = (
        replace(member, revise=revise) if name == f"{prefix}{LOCALIZER_MAP}" else member
        for prefix, member in prefixed(segmenter)
    )
    return replace(segmenter, members=tuple(members))


def _at_mean(context: CoarseMap) -> CoarseMap:
    means = context.values.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    return replace(context, values=np.broadcast_to(means.astype(np.float32), context.values.shape))


def _shifted(context: CoarseMap) -> CoarseMap:
    """At most half an axis, so that a short one is not shifted back to where it was."""
    steps = [min(SHIFT, size // 2) for size in context.values.shape[1:]]
    return replace(context, values=np.roll(context.values, steps, axis=(1, 2, 3)))


def _without(context: CoarseMap) -> CoarseMap:
    return replace(context, values=np.zeros_like(context.values))


CONTEXT_REPLACEMENTS: Mapping[str, str] = {
    "mean": "its mean over the image in each channel: as much as before, but the same everywhere",
    "shifted": f"shifted by {SHIFT} voxels of the coarse grid along each axis, around its borders: as much as before, "
    "but elsewhere",
    "zero": "0 everywhere, as if the localizer had found nothing: without context",
}

_REVISIONS: Mapping[str, Callable[[CoarseMap], CoarseMap]] = {"mean": _at_mean, "shifted": _shifted, "zero": _without}
