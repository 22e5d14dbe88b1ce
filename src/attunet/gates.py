"""The table of attention gate kinds, and the names of gates and of their attention maps. Does not need torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "GATES",
    "LOCALIZER_MAP",
    "MAX_MAPS",
    "Gate",
    "GateKind",
    "attention_map_names",
    "is_level_name",
    "is_localizer_map",
    "level_name",
]

Gate = Literal["grid", "multi", "additive"]


@dataclass(frozen=True, kw_only=True)
class GateKind:
    """One kind of gate, as read by the network, the planner and the help texts.

    Args:
        summary: one line for help and the reference pages.
        maps: coefficients per voxel of the skip; each has layers of its own.
        signal: the gating signal: "coarse", the decoder feature of the next coarser level before upsampling, so that
            theta has the level's stride; "upsampled", the same feature on the skip's grid, so that theta has none.
        normalized: whether theta, phi and psi are each followed by the network's norm. Without, theta has no bias.
    """

    summary: str
    maps: int
    signal: Literal["coarse", "upsampled"]
    normalized: bool


GATES: dict[Gate, GateKind] = {
    "grid": GateKind(summary="the paper's", maps=1, signal="coarse", normalized=False),
    "multi": GateKind(summary="two of the paper's, combined", maps=2, signal="coarse", normalized=False),
    "additive": GateKind(summary="the popular listing's", maps=1, signal="upsampled", normalized=True),
}

MAX_MAPS = max(kind.maps for kind in GATES.values())

LOCALIZER_MAP = "localizer"
"""The name of the first attention map of a cascade: how probable its localizer finds any label."""

_LEVEL = "level"


def level_name(level: int) -> str:
    """The name of a level, 1 the finest, and of the gate on its skip: level1, level2, ..."""
    return f"{_LEVEL}{level}"


def is_level_name(name: str) -> bool:
    """Whether this is a name as `level_name` returns it."""
    return name.startswith(_LEVEL) and name.removeprefix(_LEVEL).isdigit()


def is_localizer_map(name: str) -> bool:
    """Whether a map is that of a localizer rather than of a gate; of an ensemble it is named MEMBER/localizer."""
    return name.rpartition("/")[2] == LOCALIZER_MAP


def attention_map_names(gate: str, maps: int) -> list[str]:
    """The name of each map of a gate: the gate's own when there is one, else level3.1, level3.2, ..."""
    return [gate] if maps == 1 else [f"{gate}.{index}" for index in range(1, maps + 1)]
