"""From a fingerprint to a plan: every number decided here, each with the reason it was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from attunet.config import FingerprintSummary, Gate, NetworkConfig, Normalization, Plan, Preprocessing
from attunet.errors import ConfigError
from attunet.networks import default_network, listing_network, paper_network
from attunet.planning.fingerprint import Fingerprint
from attunet.planning.topology import Topology, plan_topology

__all__ = ["Dials", "Preset", "Size", "make_plan"]

Size = Literal["small", "base", "large"]
Preset = Literal["default", "paper", "listing"]
Triple = tuple[int, int, int]
_ANISOTROPY = 3.0


@dataclass(frozen=True)
class Budget:
    """What one setting of the size dial allows."""

    voxels: dict[int, int]
    """Patch voxels by spatial dimensions."""
    batch: dict[int, int]
    volume_voxels: int
    """Voxels of the median volume beyond which the spacing is coarsened."""
    channels: tuple[int, ...]


_BUDGETS: dict[Size, Budget] = {
    "small": Budget({2: 192 * 192, 3: 100_000}, {2: 8, 3: 2}, 2_500_000, (16, 32, 64, 128, 256)),
    "base": Budget({2: 512 * 512, 3: 1_100_000}, {2: 12, 3: 2}, 60_000_000, (32, 64, 128, 256, 320, 320)),
    "large": Budget({2: 768 * 768, 3: 2_600_000}, {2: 16, 3: 2}, 500_000_000, (48, 96, 192, 384, 512, 512)),
}


@dataclass(frozen=True)
class Dials:
    """What a user may turn; everything else follows from the data."""

    size: Size = "base"
    size_reason: str = "chosen with --size"
    spatial_dims: Literal[2, 3] | None = None
    preset: Preset = "default"
    gate: Gate | Literal["none"] | None = None


def make_plan(fingerprint: Fingerprint, dials: Dials) -> Plan:
    """Decide spacing, normalisation, patch, batch and network.

    Raises: ConfigError when the dials contradict the data (a 3-D network for 2-D images).
    """
    reasons = {"size": dials.size_reason}
    budget = _BUDGETS[dials.size]
    dims = _spatial_dims(fingerprint, dials, reasons)
    slice_axis = _slice_axis(fingerprint, dims, reasons)
    order = [axis for axis in range(3) if axis != slice_axis] + [slice_axis]
    spacing = _spacing(fingerprint, order, dims, budget, dials, reasons)
    shape = np.median(fingerprint.shapes[:, order] * fingerprint.spacings[:, order], axis=0) / spacing
    topology = _topology(shape, spacing, dims, budget, dials, reasons)
    summary = FingerprintSummary(
        cases=len(fingerprint.cases),
        channels=len(fingerprint.channel_names),
        median_shape=_triple(np.median(fingerprint.shapes, axis=0)),
        median_spacing=_floats(np.median(fingerprint.spacings, axis=0)),
        label_voxels=fingerprint.label_counts(),
    )
    return Plan(
        name=fingerprint.name,
        labels=fingerprint.labels,
        channel_names=fingerprint.channel_names,
        ignore_label=fingerprint.ignore_label,
        modality=fingerprint.modality,
        size=dials.size,
        preset=dials.preset,
        preprocessing=Preprocessing(
            spacing=_floats(spacing),
            slice_axis=slice_axis,
            normalization=_normalization(fingerprint, dials, reasons),
        ),
        patch_size=topology.patch_size,
        batch_size=_batch(topology, shape, dims, budget, reasons),
        network=_network(fingerprint, topology, dims, budget, dials, reasons),
        mirror_axes=_mirror_axes(fingerprint, dims, dials, reasons),
        fingerprint=summary,
        reasons=reasons,
    )


def _spatial_dims(fingerprint: Fingerprint, dials: Dials, reasons: dict[str, str]) -> Literal[2, 3]:
    depth = int(np.median(fingerprint.shapes.min(axis=1)))
    flat = bool((fingerprint.shapes.min(axis=1) == 1).all())
    wanted: Literal[2, 3] | None = 2 if dials.preset == "listing" else dials.spatial_dims
    if wanted == 3 and flat:
        raise ConfigError(
            "a 3-D network was asked for, but the images are 2-D", hint="leave out --spatial-dims"
        )
    if dials.preset == "listing":
        reasons["spatial_dims"] = (
            "the listing is a 2-D network; volumes are trained and predicted slice by slice"
        )
    elif wanted:
        reasons["spatial_dims"] = f"{wanted}-D chosen with --spatial-dims"
    elif depth < 8:
        wanted = 2
        reasons["spatial_dims"] = (
            f"2-D: the thinnest axis has {depth} voxels in the median, too few for a 3-D network"
        )
    else:
        wanted = 3
        reasons["spatial_dims"] = f"3-D: the thinnest axis has {depth} voxels in the median"
    return wanted or 2


def _slice_axis(fingerprint: Fingerprint, dims: int, reasons: dict[str, str]) -> Literal[0, 1, 2]:
    spacing = np.median(fingerprint.spacings, axis=0)
    flat = (fingerprint.shapes == 1).all(axis=0)
    axis = int(np.argmax(flat)) if flat.any() else int(np.argmax(spacing))
    if not flat.any() and spacing.max() < 1.05 * spacing[2]:
        axis = 2
    if dims == 2:
        reasons["slice_axis"] = (
            f"slices are cut along axis {axis}, whose spacing {spacing[axis]:.2f} mm is the coarsest"
        )
    else:
        reasons["slice_axis"] = f"axis {axis} with spacing {spacing[axis]:.2f} mm is last in memory"
    return (0, 1, 2)[axis]


def _spacing(
    fingerprint: Fingerprint,
    order: list[int],
    dims: int,
    budget: Budget,
    dials: Dials,
    reasons: dict[str, str],
) -> np.ndarray:
    spacings = fingerprint.spacings[:, order]
    target = np.median(spacings, axis=0)
    reasons["spacing"] = "the median of the data set"
    if dials.preset == "paper" and fingerprint.modality == "ct":
        reasons["spacing"] = "2 mm isotropic, as in the paper"
        return np.full(3, 2.0)
    coarse = int(np.argmax(target))
    if dims == 3 and target[coarse] > _ANISOTROPY * np.delete(target, coarse).max():
        target[coarse] = max(
            float(np.percentile(spacings[:, coarse], 10)), float(np.delete(target, coarse).max())
        )
        reasons["spacing"] += f"; the coarse axis at its 10th percentile, {target[coarse]:.2f} mm"
    if fingerprint.modality == "image" and dims == 2:
        return target
    extent = np.median(fingerprint.shapes[:, order] * spacings, axis=0)
    return _coarsened(target, extent, dims, budget, reasons)


def _coarsened(
    target: np.ndarray, extent: np.ndarray, dims: int, budget: Budget, reasons: dict[str, str]
) -> np.ndarray:
    """Coarsen the finest axes first until the median volume fits the budget of this size."""
    limit = budget.volume_voxels if dims == 3 else budget.voxels[2] * 4
    axes = 3 if dims == 3 else 2
    spacing = target.copy()
    while np.prod(extent[:axes] / spacing[:axes]) > limit:
        finest = spacing[:axes] <= spacing[:axes].min() * 1.01
        spacing[:axes][finest] *= 1.02
    if not np.array_equal(spacing, target):
        reasons["spacing"] += (
            f"; coarsened from {np.round(target, 2).tolist()} mm so that the median volume has at most "
            f"{limit / 1e6:.1f} million voxels at this size"
        )
    return spacing


def _topology(
    shape: np.ndarray, spacing: np.ndarray, dims: int, budget: Budget, dials: Dials, reasons: dict[str, str]
) -> Topology:
    fixed = 5 if dials.preset != "default" else None
    topology = plan_topology(
        shape, spacing, dims, budget.voxels[dims], len(budget.channels), fixed_levels=fixed
    )
    reasons["patch_size"] = (
        f"the shape of the median case, {_triple(shape)}, shrunk to at most {budget.voxels[dims]} voxels for this size "
        f"and rounded to what the network halves evenly"
    )
    reasons["strides"] = (
        "five levels, as published"
        if fixed
        else f"{len(topology.strides) + 1} levels: axes are halved while at least 4 voxels remain, coarse axes later"
    )
    return topology


def _batch(topology: Topology, shape: np.ndarray, dims: int, budget: Budget, reasons: dict[str, str]) -> int:
    voxels = int(np.prod(topology.patch_size))
    room = max(1, budget.voxels[dims] * budget.batch[dims] // voxels)
    batch = int(min(room, 32 if dims == 2 else 8))
    batch = max(2, batch)
    reasons["batch_size"] = (
        f"as many patches as fit {budget.batch[dims]} x {budget.voxels[dims]} voxels, at least 2"
    )
    return batch


def _network(
    fingerprint: Fingerprint,
    topology: Topology,
    dims: Literal[2, 3],
    budget: Budget,
    dials: Dials,
    reasons: dict[str, str],
) -> NetworkConfig:
    inputs, outputs = len(fingerprint.channel_names), len(fingerprint.labels)
    width = budget.channels[0]
    gate: Gate | None = None if dials.gate == "none" else (dials.gate or "grid")
    if dials.preset == "default":
        reasons["network"] = f"{width} channels at full resolution for this size; gate: {gate or 'none'}"
        return default_network(
            spatial_dims=dims,
            in_channels=inputs,
            out_channels=outputs,
            channels=budget.channels[: len(topology.strides) + 1],
            strides=topology.strides,
            kernel_sizes=topology.kernel_sizes,
            gate=gate,
        )
    if dials.preset == "listing":
        if dials.gate not in (None, "additive"):
            raise ConfigError(
                f"the listing has additive gates, got --gate {dials.gate}", hint="leave out --gate"
            )
        reasons["network"] = "the popular 2-D listing with a single sigmoid, its width set by the size"
        wide = tuple(width * 2**level for level in range(5))
        return listing_network(in_channels=inputs, out_channels=outputs, channels=wide)
    variant: Literal["single", "multi", "unet"] = {"grid": "single", "multi": "multi", None: "unet"}.get(
        gate, "single"
    )
    if gate == "additive":
        raise ConfigError(
            "the paper's network has grid gates, got --gate additive", hint="use grid, multi or none"
        )
    reasons["network"] = f"the paper's network, variant {variant}, at its published width"
    return paper_network(variant, in_channels=inputs, out_channels=outputs, spatial_dims=dims)


def _normalization(
    fingerprint: Fingerprint, dials: Dials, reasons: dict[str, str]
) -> tuple[Normalization, ...]:
    channels = len(fingerprint.channel_names)
    if fingerprint.modality != "ct" or dials.preset == "paper":
        reasons["normalization"] = "each case and channel to mean 0 and standard deviation 1"
        return (Normalization(kind="zscore"),) * channels
    reasons["normalization"] = (
        "CT: clipped to the 0.5th and 99.5th percentile of the labelled voxels, then their mean and sd"
    )
    result = []
    for channel in range(channels):
        values = np.concatenate([case.intensities[channel] for case in fingerprint.cases])
        lower, upper = np.percentile(values, [0.5, 99.5])
        result.append(
            Normalization(
                kind="ct",
                lower=float(lower),
                upper=float(upper),
                mean=float(values.mean()),
                std=max(float(values.std()), 1e-3),
            )
        )
    return tuple(result)


def _mirror_axes(
    fingerprint: Fingerprint, dims: int, dials: Dials, reasons: dict[str, str]
) -> tuple[Literal[0, 1, 2], ...]:
    if dials.preset == "paper":
        reasons["mirror_axes"] = "flips within the axial plane, as in the paper"
        return (0, 1)
    if fingerprint.modality == "image" and dims == 2:
        reasons["mirror_axes"] = "images have no anatomical sides"
        return (0, 1)
    reasons["mirror_axes"] = "none: anatomy has a left and a right, a front and a back, a top and a bottom"
    return ()


def _triple(values: np.ndarray) -> Triple:
    i, j, k = (max(1, round(float(value))) for value in values)
    return i, j, k


def _floats(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 6) for value in values)
    return x, y, z
