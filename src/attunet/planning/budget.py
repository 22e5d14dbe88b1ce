"""What each setting of the size dial allows, and what a user may turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attunet.gates import Gate
from attunet.planning.hardware import Machine

__all__ = ["BUDGETS", "Budget", "Dials", "Preset", "Resolution", "Size"]

Size = Literal["small", "base", "large"]
Preset = Literal["default", "paper", "listing"]
Resolution = Literal["auto", "full", "low"]


@dataclass(frozen=True)
class Budget:
    """Limits of one size; the dictionaries are keyed by spatial dimensions.

    Args: most voxels of a patch; patches of that size in a batch; voxels of the median volume beyond which the
        spacing is coarsened; channels per level, as many levels at most.
    """

    voxels: dict[int, int]
    batch: dict[int, int]
    volume_voxels: int
    channels: tuple[int, ...]


BUDGETS: dict[Size, Budget] = {
    "small": Budget({2: 192 * 192, 3: 100_000}, {2: 8, 3: 2}, 2_500_000, (16, 32, 64, 128, 256)),
    "base": Budget({2: 512 * 512, 3: 1_100_000}, {2: 12, 3: 2}, 60_000_000, (32, 64, 128, 256, 320, 320)),
    "large": Budget({2: 768 * 768, 3: 2_600_000}, {2: 16, 3: 2}, 500_000_000, (48, 96, 192, 384, 512, 512)),
}


@dataclass(frozen=True)
class Dials:
    """What a user may turn; everything else follows from the data.

    Args: memory_gb, what a training on the device may use; most of what is free when None.
    """

    size: Size = "base"
    size_reason: str = "chosen with --size"
    spatial_dims: Literal[2, 3] | None = None
    preset: Preset = "default"
    gate: Gate | Literal["none"] | None = None
    resolution: Resolution = "auto"
    device: Machine = "cpu"
    memory_gb: float | None = None
