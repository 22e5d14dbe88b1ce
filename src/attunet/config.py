"""The settings of a model's life: network, preprocessing, plan and training. Unknown keys are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attunet.errors import ConfigError

__all__ = [
    "FingerprintSummary",
    "NetworkConfig",
    "Normalization",
    "Plan",
    "Preprocessing",
    "Settings",
    "TrainingConfig",
    "load_settings",
]

Triple = tuple[int, int, int]
Gate = Literal["grid", "multi", "additive"]


class Settings(BaseModel):
    """Base of all settings: frozen, validated, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkConfig(Settings):
    """The arguments of `attunet.nn.AttentionUNet`, field by field."""

    spatial_dims: Literal[2, 3] = Field(description="2 for images and slices, 3 for volumes.")
    in_channels: int = Field(ge=1, description="Channels of the input image.")
    out_channels: int = Field(ge=1, description="Classes, background included.")
    channels: tuple[int, ...] = Field(min_length=2, description="Feature channels per level, finest first.")
    strides: tuple[tuple[int, ...], ...] = Field(
        description="Downsampling per axis between level i and i+1; one entry fewer than channels."
    )
    kernel_sizes: tuple[tuple[int, ...], ...] = Field(
        description="Kernel size per axis of each level's convolutions; as many entries as channels."
    )
    convolutions: int = Field(2, ge=1, description="Convolutions per level, in encoder and decoder.")
    gate: Gate | None = Field("grid", description="Kind of attention gate on the skips; null is a plain U-Net.")
    gated_levels: tuple[int, ...] | None = Field(
        None,
        description="Levels whose skip is gated, 1 the finest; null means all but level 1 (and the bottleneck).",
    )
    gate_channels: tuple[int, ...] | None = Field(
        None,
        description="Inner channels of each gate, in the order of gated_levels; null means half the skip's.",
    )
    gate_projection: bool = Field(
        False, description="Whether the gated skip passes W (1x1 convolution and norm), as in the paper."
    )
    gate_bias: float = Field(3.0, description="Start value of psi's bias: positive lets everything pass at first.")
    double_sigmoid: bool = Field(
        False,
        description="Apply the sigmoid twice, as the popular listing does by mistake: alpha in (0.5, 0.731).",
    )
    norm: Literal["instance", "batch", "none"] = Field("instance", description="Normalisation after convolutions.")
    activation: Literal["leaky_relu", "relu"] = Field("leaky_relu", description="Activation after the norm.")
    downsample: Literal["stride", "max"] = Field("stride", description="Strided first convolution, or max-pooling.")
    upsample: Literal["deconv", "linear", "nearest", "transpose"] = Field(
        "deconv",
        description="deconv: transposed convolution with kernel = stride; linear: interpolation only (paper); "
        "nearest: repetition, then convolution; transpose: kernel 4 stride 2, then convolution (listing).",
    )
    deep_supervision: Literal["auxiliary", "fused", "none"] = Field(
        "auxiliary",
        description="auxiliary: extra logits at coarser levels for the loss; fused: heads of all levels joined "
        "by a 1x1 convolution into one output (paper); none.",
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Channel dropout after each level's convolutions.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        levels = len(self.channels)
        if len(self.strides) != levels - 1 or len(self.kernel_sizes) != levels:
            raise ValueError(
                f"{levels} channels need {levels - 1} strides and {levels} kernel_sizes, "
                f"got {len(self.strides)} and {len(self.kernel_sizes)}"
            )
        if any(len(entry) != self.spatial_dims for entry in (*self.strides, *self.kernel_sizes)):
            raise ValueError(f"every stride and kernel size needs {self.spatial_dims} numbers")
        if len(set(self._gated) & set(range(1, levels))) < len(self._gated):
            raise ValueError(f"gated_levels must differ and lie in 1..{levels - 1}, got {self.gated_levels}")
        per_axis = [number for entry in (*self.strides, *self.kernel_sizes) for number in entry]
        if min(*per_axis, *self.channels, *(self.gate_channels or ())) < 1:
            raise ValueError("channels, gate_channels, strides and kernel_sizes must be positive")
        if any(number % 2 == 0 for entry in self.kernel_sizes for number in entry):
            raise ValueError(f"kernel sizes must be odd, got {self.kernel_sizes}")
        if self.gate_channels is not None and len(self.gate_channels) != len(self._gated):
            raise ValueError(f"gate_channels needs one number for each of the gated levels {self._gated}")
        return self

    @property
    def _gated(self) -> tuple[int, ...]:
        return tuple(range(2, len(self.channels))) if self.gated_levels is None else self.gated_levels

    @property
    def gate_widths(self) -> dict[int, int]:
        """Gated level to its gate's inner channels, finest first; empty when there is no gate."""
        halves = tuple(max(1, self.channels[level - 1] // 2) for level in self._gated)
        widths = zip(self._gated, self.gate_channels or halves, strict=True)
        return dict(sorted(widths)) if self.gate else {}


class Normalization(Settings):
    """How one channel's intensities become numbers around zero."""

    kind: Literal["zscore", "ct", "none"] = Field(
        description="zscore: each case by its own mean and standard deviation; ct: clip, then the data set's own."
    )
    lower: float = Field(0.0, description="Clip bound (ct), the 0.5th percentile of the foreground.")
    upper: float = Field(0.0, description="Clip bound (ct), the 99.5th percentile of the foreground.")
    mean: float = Field(0.0, description="Mean of the foreground (ct).")
    std: float = Field(1.0, gt=0.0, description="Standard deviation of the foreground (ct).")


class Preprocessing(Settings):
    """From a volume on the patient's grid to the network's input."""

    spacing: tuple[float, float, float] = Field(
        description="Voxel size in mm of the model grid; canonical (RAS) axes, slice axis moved last."
    )
    slice_axis: Literal[0, 1, 2] = Field(
        2,
        description="Canonical axis (0 left-right, 1 front-back, 2 up-down) moved last; slices are cut along it.",
    )
    normalization: tuple[Normalization, ...] = Field(description="One per channel.")
    crop_to_content: bool = Field(True, description="Cut away margins in which every channel is at its minimum.")


class FingerprintSummary(Settings):
    """What the planner saw."""

    cases: int
    channels: int
    median_shape: Triple = Field(description="Voxels, canonical axes, after cropping.")
    median_spacing: tuple[float, float, float] = Field(description="mm, canonical axes.")
    label_voxels: dict[str, int] = Field(description="Voxels per label over all cases.")


class Plan(Settings):
    """Every decision taken before training, with its reason; written as plan.json."""

    name: str = Field(description="Name of the data set.")
    labels: dict[str, int] = Field(
        min_length=2, description="Class name to the value it has in label files; background first."
    )
    channel_names: tuple[str, ...] = Field(description="One per input channel.")
    ignore_label: int | None = Field(None, description="Label value whose voxels are left out of the loss.")
    modality: Literal["ct", "mr", "image", "other"] = Field("other", description="What kind of image this is.")
    size: Literal["small", "base", "large"] = Field("base", description="The dial the network was planned with.")
    preset: Literal["default", "paper", "listing"] = Field("default", description="Family of the network.")
    preprocessing: Preprocessing
    patch_size: Triple = Field(description="Voxels of the model grid; the last is 1 for a 2-D network.")
    batch_size: int = Field(ge=1)
    network: NetworkConfig
    mirror_axes: tuple[Literal[0, 1, 2], ...] = Field(
        (), description="Model axes along which training and prediction may flip the image."
    )
    fingerprint: FingerprintSummary
    reasons: dict[str, str] = Field(description="Why each number is what it is.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.network.out_channels != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels need as many out_channels, got {self.network.out_channels}")
        if self.network.in_channels != len(self.preprocessing.normalization):
            raise ValueError("normalization needs one entry per input channel")
        if self.network.spatial_dims == 2 and self.patch_size[2] != 1:
            raise ValueError(f"a 2-D network needs a patch of depth 1, got {self.patch_size}")
        return self

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of the labels that are not background."""
        return tuple(self.labels)[1:]


class TrainingConfig(Settings):
    """How a plan is trained; a recipe is a YAML file with any of these keys."""

    epochs: int = Field(200, ge=1, description="Epochs to train, when no max_time is given.")
    max_time: float | None = Field(None, gt=0, description="Wall-clock budget of the training in seconds.")
    steps_per_epoch: int = Field(50, ge=1, description="Optimiser steps in one epoch.")
    folds: int = Field(5, ge=2, description="Folds of the cross-validation.")
    seed: int = Field(0, ge=0, description="Seed of folds, weights, patches and augmentation.")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="Optimiser.")
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate at the start.")
    weight_decay: float = Field(3e-5, ge=0, description="Weight decay.")
    momentum: float = Field(0.99, ge=0, lt=1, description="Nesterov momentum (sgd).")
    schedule_power: float = Field(0.9, gt=0, description="Exponent of the polynomial decay to zero.")
    warmup_steps: int = Field(20, ge=0, description="Steps over which the rate grows to its start value.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="Decay per step of the averaged weights that are kept.")
    loss: Literal["dice_ce", "dice"] = Field("dice_ce", description="Dice plus cross-entropy, or Dice alone (paper).")
    include_background: bool = Field(False, description="Whether Dice counts the background class (paper: yes).")
    foreground_fraction: float = Field(
        0.5, ge=0, le=1, description="Share of patches centred on a labelled voxel, classes in turn."
    )
    augmentation: Literal["default", "paper", "none"] = Field("default", description="Set of random transforms.")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="Arithmetic of the training.")
    validation_fraction: float = Field(
        0.1, gt=0, le=1, description="Largest share of the training time spent on full-volume validation."
    )
    workers: int = Field(1, ge=0, description="Processes that prepare patches.")


S = TypeVar("S", bound=Settings)


def load_settings(kind: type[S], source: Path | dict[str, Any], **overrides: Any) -> S:
    """Settings of `kind` from a YAML or JSON file or a dict; keyword arguments win over the source.

    Raises: ConfigError naming the file and each offending key.
    """
    values = source if isinstance(source, dict) else _read_mapping(source)
    try:
        return kind.model_validate({**values, **overrides})
    except ValidationError as error:
        where = "settings" if isinstance(source, dict) else str(source)
        raise ConfigError(f"{where}: {describe(error)}", hint=_known_keys(kind, error)) from error


def describe(error: ValidationError) -> str:
    """A pydantic error as one line: key, what was got, what was expected."""
    lines = []
    for issue in error.errors():
        key = ".".join(str(part) for part in issue["loc"]) or "settings"
        got = "" if issue["type"] in ("missing", "value_error") else f", got {issue['input']!r}"
        lines.append(f"{key}: {issue['msg']}{got}"[:300])
    return "; ".join(lines)


def _known_keys(kind: type[Settings], error: ValidationError) -> str:
    """The keys that are known where the first offending one stands, such as those of network."""
    for part in error.errors()[0]["loc"][:-1]:
        field = kind.model_fields.get(str(part))
        kind = next(iter(_types(field.annotation)), kind) if field else kind
    return f"known keys: {', '.join(kind.model_fields)}"


def _types(annotation: Any) -> list[type[Settings]]:
    """The settings that a field holds, itself or in a tuple."""
    kinds = (annotation, *get_args(annotation))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)]


def _read_mapping(path: Path) -> dict[str, Any]:
    read = json.loads if path.suffix == ".json" else yaml.safe_load  # YAML misreads JSON's surrogate pairs
    try:
        values = read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML or JSON: {error}".replace("\n", " ")) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}, expected keys and values")
    return values
