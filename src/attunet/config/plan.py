"""The plan of a model: every decision taken before training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from attunet.config.coding import SegmentCode
from attunet.config.fingerprint import FingerprintSummary, Triple
from attunet.config.localizer import FOREGROUND, Localizer
from attunet.config.network import NetworkConfig
from attunet.config.preprocessing import Preprocessing
from attunet.config.settings import Settings
from attunet.display import NotebookView
from attunet.errors import ConfigError
from attunet.gates import level_name

__all__ = [
    "IGNORED",
    "Plan",
    "mirrored_order",
    "mirrored_values",
]

IGNORED = 255
"""Class index of voxels that are left out of the loss."""

MOST_VOXELS = 2**31  # of a patch
LabelValue = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class Plan(NotebookView, Settings):
    """Every decision taken before training, with its reason; written as plan.json."""

    name: str = Field(description="Name of the data set.")
    labels: dict[str, LabelValue] = Field(
        min_length=2, description="Class name to the value it has in label files; background first."
    )
    regions: dict[str, tuple[LabelValue, ...]] = Field(
        default_factory=dict,
        description="Overlapping targets, such as an organ with its tumour: name to the file values it unites, in the "
        "order in which they are painted into a mask, with their value in labels; one sigmoid output for each.",
    )
    channel_names: tuple[str, ...] = Field(description="One per input channel.")
    codes: dict[str, SegmentCode] = Field(
        default_factory=dict,
        description="Label to its codes in a terminology, for DICOM objects; those of usual structures are known.",
    )
    ignore_label: LabelValue | None = Field(None, description="Label value whose voxels are left out of the loss.")
    modality: Literal["ct", "mr", "pet", "image", "other"] = Field(
        "other", description="Kind of image, of the first channel; `reasons` says how certain it is, and of all others."
    )
    size: Literal["small", "base", "large"] = Field("base", description="Size the network was planned with.")
    preset: Literal["default", "paper", "listing"] = Field("default", description="Family of the network.")
    preprocessing: Preprocessing
    patch_size: Triple = Field(description="Voxels of the model grid; the last is 1 for a 2-D network.")
    batch_size: int = Field(ge=1, le=2**16, description="Patches in one optimizer step.")
    accumulation: int = Field(
        1,
        ge=1,
        le=2**16,
        description="Equal parts of a batch that are trained one after the other before each optimizer step, to save "
        "memory; batch Dice is then computed for each part.",
    )
    checkpointing: bool = Field(
        False,
        description="Gradient checkpointing: whether the backward pass recomputes each stage instead of storing its "
        "activations. Less memory, more time, the same results.",
    )
    network: NetworkConfig
    localizer: Localizer | None = Field(
        None,
        description="The first stage of a cascade: finds the organs on a coarse grid; null for one stage.",
    )
    resolution: Literal["full", "low"] = Field(
        "full", description="low: a coarser grid, so that a patch covers more of the image."
    )
    mirror_axes: tuple[Literal[0, 1, 2], ...] = Field(
        (), description="Model axes along which training and prediction may flip the image."
    )
    mirror_swaps: tuple[tuple[str, str], ...] = Field(
        (), description="Labels that are exchanged when the left-right axis is mirrored, such as the two kidneys."
    )
    fingerprint: FingerprintSummary = Field(description="Statistics of the data set, as used for planning.")
    reasons: dict[str, str] = Field(description="The reason for each number.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.regions and list(self.regions) != list(self.labels)[1:]:
            raise ValueError(f"regions must be named like the labels {list(self.labels)[1:]}, got {list(self.regions)}")
        if self.network.out_channels != len(self.outputs):
            raise ValueError(f"{len(self.outputs)} outputs need as many out_channels, got {self.network.out_channels}")
        values = [*self.labels.values(), *([] if self.ignore_label is None else [self.ignore_label])]
        if len(set(values)) < len(values):
            raise ValueError(f"labels and ignore_label need distinct values, got {values}")
        channels = {len(self.preprocessing.normalization), len(self.channel_names), self._image_inputs}
        if self.fingerprint.ranges is not None:
            channels.add(len(self.fingerprint.ranges.channels))
        if len(channels) > 1:
            raise ValueError(
                "normalization, channel_names and the channels of the fingerprint's ranges need one entry per input "
                "channel (in_channels, less the localizer's context)"
            )
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation must divide batch_size, got {self.accumulation} and {self.batch_size}")
        if self.network.spatial_dims == 2 and self.patch_size[2] != 1:
            raise ValueError(f"patch_size must be of depth 1 for a 2-D network, got {self.patch_size}")
        if prod(self.patch_size) > MOST_VOXELS:
            raise ValueError(f"patch_size may have {MOST_VOXELS} voxels, got {self.patch_size}")
        return self

    @model_validator(mode="after")
    def _check_localizer(self) -> Self:
        if self.localizer is None:
            return self
        coarse, fine = self.localizer.network, self.network
        given = coarse.spatial_dims, coarse.in_channels, coarse.out_channels
        expected = fine.spatial_dims, len(self.channel_names), len(self.outputs)
        if given != expected:
            raise ValueError(f"the localizer needs spatial_dims, in_channels, out_channels {expected}, got {given}")
        if coarse.spatial_dims == 2 and self.localizer.patch_size[2] != 1:
            raise ValueError("the localizer's patch_size must be of depth 1 for a 2-D network")
        return self

    @model_validator(mode="after")
    def _check_mirroring(self) -> Self:
        axes = self.mirror_axes
        if len(set(axes)) < len(axes) or any(axis >= self.network.spatial_dims for axis in axes):
            raise ValueError(f"mirror_axes must differ and be axes of the network, got {axes}")
        swapped = [name for pair in self.mirror_swaps for name in pair]
        if len(set(swapped)) < len(swapped) or not set(swapped) <= set(self.foreground):
            raise ValueError(f"mirror_swaps must name different labels of {', '.join(self.foreground)}, got {swapped}")
        if swapped and self.left_right not in axes:
            raise ValueError(f"mirror_swaps needs the left-right axis, {self.left_right}, in mirror_axes, got {axes}")
        return self

    @property
    def context(self) -> tuple[str, ...]:
        """The name of each context channel of the network: after the image's channels, from the localizer."""
        kind = self.localizer.context if self.localizer else "none"
        return {"labels": self.foreground, "foreground": (FOREGROUND,), "none": ()}[kind]

    @property
    def mirrored_context(self) -> tuple[int, ...]:
        """For each context channel, the index of the one it becomes in a left-right mirror image."""
        return mirrored_order(self.context, self.mirror_swaps)

    @property
    def _image_inputs(self) -> int:
        return self.network.in_channels - len(self.context)

    @property
    def coarse(self) -> Plan:
        """The plan of the localizer alone, which is trained and run like any other plan.

        Raises: ConfigError when the plan has no localizer.
        """
        if self.localizer is None:
            raise ConfigError(f"the plan of {self.name} has no localizer", hint="plan with --cascade on")
        changes = {
            "preprocessing": self.preprocessing.model_copy(update={"spacing": self.localizer.spacing}),
            "patch_size": self.localizer.patch_size,
            "batch_size": self.localizer.batch_size,
            "network": self.localizer.network,
            "accumulation": 1,
            "checkpointing": False,
            "localizer": None,
            "resolution": "low",
        }
        return self.model_copy(update=changes)

    @property
    def micro_batch_size(self) -> int:
        """Patches that are trained at once: the batch size divided by `accumulation`."""
        return self.batch_size // self.accumulation

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of the labels that are not background."""
        return tuple(self.labels)[1:]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The name of each channel of the logits: every label (softmax), or every region (sigmoid)."""
        return tuple(self.regions) or tuple(self.labels)

    @property
    def file_classes(self) -> tuple[tuple[int, ...], ...]:
        """The values of label files that mean the same, background first; a stored case holds their indices.

        The index `IGNORED` is reserved and has no values.
        """
        background, *foreground = self.labels.values()
        classes = [(background,), *(_equivalent(self.regions, background) if self.regions else zip(foreground))]
        return (*classes[:IGNORED], *([()] if len(classes) > IGNORED else []), *classes[IGNORED:])

    @property
    def left_right(self) -> int:
        """The model axis that runs from left to right."""
        return [
            *(axis for axis in range(3) if axis != self.preprocessing.slice_axis),
            self.preprocessing.slice_axis,
        ].index(0)

    @property
    def level_strides(self) -> dict[str, Triple]:
        """Name of each level (and of its gate) to its voxel size in voxels of the model grid, along three axes."""
        strides = ((*total, 1)[:3] for total in self.network.total_strides)
        return {level_name(level): (i, j, k) for level, (i, j, k) in enumerate(strides, start=1)}

    @property
    def mirrored_outputs(self) -> tuple[int, ...]:
        """For each output, the index of the output it becomes in a left-right mirror image."""
        return mirrored_order(self.outputs, self.mirror_swaps)

    @property
    def mirrored_classes(self) -> tuple[int, ...]:
        """For each of `file_classes`, the index of the class it becomes in a left-right mirror image.

        Raises: ConfigError when a value lies in regions whose counterparts have no value in common.
        """
        index = {value: number for number, values in enumerate(self.file_classes) for value in values}
        values = [united[0] if united else None for united in self.file_classes]
        if not self.regions:
            order = dict(zip(self.labels.values(), self.mirrored_outputs, strict=True))
            written = list(self.labels.values())
            return tuple(IGNORED if value is None else index[written[order[value]]] for value in values)
        counterparts = mirrored_values(self.regions, self.mirror_swaps)
        if alone := [value for value in values[1:] if value is not None and value not in counterparts]:
            raise ConfigError(
                f"no value is the mirror image of {alone[0]}: the regions that hold it have no counterparts that share "
                "one value",
                hint="remove mirror_swaps and the left-right axis of mirror_axes from the plan",
            )
        return (0, *(IGNORED if value is None else index[counterparts[value]] for value in values[1:]))


def _equivalent(regions: Mapping[str, Collection[int]], background: int) -> list[tuple[int, ...]]:
    """The foreground values grouped by the regions that unite them, in the order of their lowest value."""
    groups: dict[frozenset[str], tuple[int, ...]] = {}
    for value in sorted({value for values in regions.values() for value in values} - {background}):
        holders = frozenset(name for name, values in regions.items() if value in values)
        groups[holders] = (*groups.get(holders, ()), value)
    return list(groups.values())


def mirrored_values(regions: Mapping[str, Collection[int]], swaps: Iterable[tuple[str, str]]) -> dict[int, int]:
    """File value to the value that lies in the regions of its left-right mirror image; no entry where none does."""
    order = mirrored_order(regions, swaps)
    values = sorted({value for region in regions.values() for value in region})
    holders = {value: frozenset(i for i, region in enumerate(regions.values()) if value in region) for value in values}
    first = {indices: value for value, indices in reversed(holders.items())}
    mirrored = {value: frozenset(order[index] for index in indices) for value, indices in holders.items()}
    return {
        value: value if indices == holders[value] else first[indices]
        for value, indices in mirrored.items()
        if indices in first
    }


def mirrored_order(names: Iterable[str], swaps: Iterable[tuple[str, str]]) -> tuple[int, ...]:
    """For each name, the index of its counterpart in a left-right mirror image; its own index where it has none."""
    partner = {name: other for pair in swaps for name, other in (pair, pair[::-1])}
    ordered = list(names)
    return tuple(ordered.index(partner.get(name, name)) for name in ordered)
