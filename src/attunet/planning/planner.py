"""From a fingerprint to a plan: every number decided here, each with the reason it was chosen."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Literal

import numpy as np

from attunet.config import NetworkConfig, Plan, Preprocessing
from attunet.errors import ConfigError
from attunet.gates import Gate
from attunet.networks import default_network, listing_network, paper_network
from attunet.planning.budget import BUDGETS, Budget, Dials
from attunet.planning.fingerprint import Fingerprint
from attunet.planning.grid import Grid, follows_paper, plan_dims, plan_grid
from attunet.planning.mirroring import Mirroring, plan_mirroring
from attunet.planning.normalization import clips, plan_normalization
from attunet.planning.summary import describe_labels, summarize
from attunet.planning.topology import Topology, plan_topology

__all__ = ["make_plan"]

_LARGEST_BATCH = {2: 32, 3: 8}
_PUBLISHED_LEVELS = 5
_PAPER_PATCH = (160, 160, 96)
_PAPER_BATCH = 2


def make_plan(fingerprint: Fingerprint, dials: Dials, voxels: int | None = None) -> Plan:
    """Decide spacing, normalisation, patch, batch and network.

    Args: the data; the dials; most voxels of a patch, where memory is short; those of the size (or of the paper) when
        None.
    Raises: ConfigError when the dials contradict the data or each other (a 3-D network for 2-D images).
    """
    fingerprint = replace(fingerprint, clipped=clips(fingerprint, dials))
    reasons = {"labels": describe_labels(fingerprint), "size": dials.size_reason}
    budget = BUDGETS[dials.size]
    dims = plan_dims(fingerprint, dials, reasons)
    published = dims == 3 and follows_paper(fingerprint, dials)
    if published:
        budget = replace(budget, voxels={dims: prod(_PAPER_PATCH)})
    grid = plan_grid(fingerprint, dims, budget, dials, reasons)
    if published:
        grid = replace(grid, shape=np.array(_PAPER_PATCH, float))
    allowed = replace(budget, voxels={dims: voxels or budget.voxels[dims]})
    topology = _topology(grid, dims, allowed, dials, reasons, published=published)
    mirroring = _mirroring(fingerprint, grid, dims, dials)
    reasons["mirror_axes"] = mirroring.reason
    return Plan(
        name=fingerprint.name,
        labels=fingerprint.labels,
        regions=fingerprint.regions,
        channel_names=fingerprint.channel_names,
        ignore_label=fingerprint.ignore_label,
        modality=fingerprint.modality,
        size=dials.size,
        preset=dials.preset,
        preprocessing=Preprocessing(
            spacing=_floats(grid.spacing),
            slice_axis=grid.slice_axis,
            normalization=plan_normalization(fingerprint, dials, reasons),
        ),
        patch_size=topology.patch_size,
        batch_size=_batch(topology, dims, allowed, reasons, published=published),
        network=_network(fingerprint, topology, dims, budget, dials, reasons),
        resolution=grid.resolution,
        mirror_axes=mirroring.axes,
        mirror_swaps=mirroring.swaps,
        fingerprint=summarize(fingerprint, mirroring),
        reasons=reasons,
    )


def _topology(
    grid: Grid, dims: Literal[2, 3], budget: Budget, dials: Dials, reasons: dict[str, str], *, published: bool
) -> Topology:
    levels = None if dials.preset == "default" else _PUBLISHED_LEVELS
    topology = plan_topology(
        grid.shape, grid.spacing, dims, budget.voxels[dims], len(budget.channels), fixed_levels=levels
    )
    shape = " x ".join(f"{size:.0f}" for size in grid.shape[:dims])
    reasons["patch_size"] = (
        f"the median shape on the model grid, {shape}, shrunk to at most {budget.voxels[dims]:,} voxels for this "
        "size and rounded up to what the network halves evenly"
    )
    if published:
        reasons["patch_size"] = f"{shape} voxels, as in the paper"
    reasons["strides"] = (
        "five levels, as published"
        if levels
        else f"{len(topology.strides) + 1} levels: axes are halved while 4 voxels remain, coarse axes later"
    )
    return topology


def _batch(topology: Topology, dims: Literal[2, 3], budget: Budget, reasons: dict[str, str], *, published: bool) -> int:
    if published:
        reasons["batch_size"] = "as in the paper"
        return _PAPER_BATCH
    allowed = budget.voxels[dims] * budget.batch[dims]
    batch = max(2, min(allowed // prod(topology.patch_size), _LARGEST_BATCH[dims]))
    reasons["batch_size"] = (
        f"as many patches as {allowed:,} voxels allow at this size, from 2 to {_LARGEST_BATCH[dims]}"
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
    inputs, outputs = len(fingerprint.channel_names), len(fingerprint.regions or fingerprint.labels)
    if dials.preset == "listing":
        return _listing(inputs, outputs, budget, dials, reasons)
    gate: Gate | None = None if dials.gate == "none" else (dials.gate or "grid")
    if dials.preset == "paper":
        return _paper(inputs, outputs, dims, gate, reasons)
    network = default_network(
        spatial_dims=dims,
        in_channels=inputs,
        out_channels=outputs,
        channels=budget.channels[: len(topology.strides) + 1],
        strides=topology.strides,
        kernel_sizes=topology.kernel_sizes,
        gate=gate,
    )
    gates = f"{gate} on {len(network.gate_widths)} skips" if gate else "none"
    reasons["network"] = f"{budget.channels[0]} channels at full resolution for this size; gate: {gates}"
    return network


def _listing(inputs: int, outputs: int, budget: Budget, dials: Dials, reasons: dict[str, str]) -> NetworkConfig:
    if dials.gate not in (None, "additive"):
        raise ConfigError(f"the listing has additive gates, got --gate {dials.gate}", hint="leave out --gate")
    reasons["network"] = "the popular 2-D listing with a single sigmoid, its width set by the size"
    channels = tuple(budget.channels[0] * 2**level for level in range(_PUBLISHED_LEVELS))
    return listing_network(in_channels=inputs, out_channels=outputs, channels=channels)


def _paper(inputs: int, outputs: int, dims: Literal[2, 3], gate: Gate | None, reasons: dict[str, str]) -> NetworkConfig:
    variants: dict[Gate | None, Literal["single", "multi", "unet"]] = {"grid": "single", "multi": "multi", None: "unet"}
    if gate not in variants:
        raise ConfigError(f"the paper's network has grid gates, got --gate {gate}", hint="use grid, multi or none")
    reasons["network"] = f"the paper's network, variant {variants[gate]}, at its published width"
    return paper_network(variants[gate], in_channels=inputs, out_channels=outputs, spatial_dims=dims)


def _mirroring(fingerprint: Fingerprint, grid: Grid, dims: Literal[2, 3], dials: Dials) -> Mirroring:
    mirroring = plan_mirroring(fingerprint, grid.slice_axis, dims)
    if dials.preset != "paper":
        return mirroring
    return replace(mirroring, axes=(0, 1), swaps=(), reason="flips within the plane of the slices, as in the paper")


def _floats(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 6) for value in values)
    return x, y, z
