"""The options of planning, and the limits of each size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from attunet.data.alignment import GeometryPolicy
from attunet.data.labels import Values
from attunet.gates import Gate
from attunet.planning.hardware import Machine, Precision, auto_size, machine_of, machine_precision

__all__ = ["BUDGETS", "Budget", "Cascade", "PlanOptions", "Preset", "Resolution", "Size"]

Size = Literal["small", "base", "large"]
Preset = Literal["default", "paper", "listing"]
Resolution = Literal["auto", "full", "low"]
Cascade = Literal["auto", "on", "off"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of one size; the dictionaries are keyed by spatial dimensions.

    Args:
        voxels: largest number of voxels in a patch.
        batch: patches of that size in a batch.
        volume_voxels: largest number of voxels of the median volume; beyond it, the spacing is coarsened.
        channels: channels per level, finest first; their number is the largest number of levels.
    """

    voxels: dict[int, int]
    batch: dict[int, int]
    volume_voxels: int
    channels: tuple[int, ...]


BUDGETS: dict[Size, Budget] = {
    "small": Budget(
        voxels={2: 192 * 192, 3: 100_000},
        batch={2: 8, 3: 2},
        volume_voxels=2_500_000,
        channels=(16, 32, 64, 128, 256),
    ),
    "base": Budget(
        voxels={2: 512 * 512, 3: 1_100_000},
        batch={2: 12, 3: 2},
        volume_voxels=60_000_000,
        channels=(32, 64, 128, 256, 320, 320),
    ),
    "large": Budget(
        voxels={2: 768 * 768, 3: 2_600_000},
        batch={2: 16, 3: 2},
        volume_voxels=500_000_000,
        channels=(48, 96, 192, 384, 512, 512),
    ),
}


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """The options of planning; everything else follows from the data.

    Args:
        size: width of the network, patch and batch; "auto" follows the device.
        spatial_dims: 2 or 3; None follows the data.
        preset: family of the network; "auto" is "default".
        gate: kind of attention gate, or "none"; None uses the preset's.
        resolution: "full" keeps the data's spacing, "low" coarsens it, "auto" coarsens it only as far as the size
            requires.
        cascade: whether a localizer finds the organs on a coarse grid first; "auto": where a patch covers little of the
            median image and few voxels have a label.
        labels: name to value, or to the values it unites, of the labels to learn; None learns every label.
        geometry: what to do when the grids of an image and its label differ.
        device: device for training: "auto", "cpu" or "cuda".
        precision: precision of the training, for its memory: "bf16", "fp32" or "auto" for the fastest of the device.
        memory_gb: memory that training may use, in GB; None allows most of the free memory.
        size_reason: why the size was chosen, for the plan's reasons.
    """

    size: Size | Literal["auto"] = "auto"
    spatial_dims: Literal[2, 3] | None = None
    preset: Preset | Literal["auto"] = "auto"
    gate: Gate | Literal["none"] | None = None
    resolution: Resolution = "auto"
    cascade: Cascade = "auto"
    labels: Mapping[str, Values] | None = None
    geometry: GeometryPolicy = "fail"
    device: Machine | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    memory_gb: float | None = None
    size_reason: str = "chosen with --size"

    def resolved(self) -> PlanOptions:
        """The same options with the size and the device of this machine instead of "auto"."""
        size, reason = self.chosen_size()
        return replace(self, size=size, size_reason=reason, device=self.machine)

    def chosen_size(self) -> tuple[Size, str]:
        """The size, and why it was chosen."""
        return auto_size(self.device) if self.size == "auto" else (self.size, self.size_reason)

    @property
    def family(self) -> Preset:
        """The family of the network."""
        return "default" if self.preset == "auto" else self.preset

    @property
    def machine(self) -> Machine:
        """The device on which training will run."""
        return machine_of(self.device)

    @property
    def trained_in(self) -> Precision:
        """The precision of the training on that device."""
        return machine_precision(self.machine) if self.precision == "auto" else self.precision
