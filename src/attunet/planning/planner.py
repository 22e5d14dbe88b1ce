"""From a fingerprint to a plan: every number is decided here, each with its reason."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Literal

import numpy as np

from attunet.config import FingerprintSummary, NetworkConfig, Plan, Preprocessing
from attunet.data.geometry import rounded
from attunet.errors import ConfigError
from attunet.gates import Gate
from attunet.networks import default_network, listing_network, paper_network
from attunet.planning.case_fingerprint import CLIPPED
from attunet.planning.fingerprint import Fingerprint
from attunet.planning.localizer import plan_localizer, with_context
from attunet.planning.mirroring import Mirroring, plan_mirroring
from attunet.planning.options import BUDGETS, Budget, PlanOptions
from attunet.planning.preprocessing import Grid, clips, follows_paper, plan_dims, plan_grid, plan_normalization
from attunet.planning.ranges import image_ranges
from attunet.planning.topology import Topology, plan_topology

__all__ = ["describe_labels", "make_plan", "summarize_fingerprint"]

_LARGEST_BATCH = {2: 32, 3: 8}
_PUBLISHED_LEVELS = 5
_PAPER_PATCH = (160, 160, 96)
_PAPER_BATCH = 2
_LISTED_LABELS = 8


def make_plan(fingerprint: Fingerprint, options: PlanOptions, voxels: int | None = None) -> Plan:
    """Decide spacing, normalization, patch, batch and network.

    Args:
        fingerprint: fingerprint of the data set.
        options: the planning options.
        voxels: largest number of voxels in a patch if memory is short; None for that of the size (or of the paper).
    Returns: the plan, its memory not yet fitted.
    Raises: ConfigError when the options contradict the data or each other (a 3-D network for 2-D images).
    """
    fingerprint = replace(fingerprint, clipped=clips(fingerprint, options))
    size, reason = options.chosen_size()
    reasons = {"labels": describe_labels(fingerprint), "size": reason}
    budget = BUDGETS[size]
    dims = plan_dims(fingerprint, options, reasons)
    published = dims == 3 and follows_paper(fingerprint, options)
    if published:
        budget = replace(budget, voxels={dims: prod(_PAPER_PATCH)})
    grid = plan_grid(fingerprint, dims, budget, options, reasons)
    if published:
        grid = replace(grid, shape=np.array(_PAPER_PATCH, float))
    allowed = replace(budget, voxels={dims: voxels or budget.voxels[dims]})
    topology = _topology(grid, dims, allowed, options, reasons, published=published)
    mirroring = _mirroring(fingerprint, grid, dims, options)
    reasons["mirror_axes"] = mirroring.reason
    localizer, reasons["cascade"] = plan_localizer(fingerprint, grid, topology, dims, allowed, options)
    network = _network(fingerprint, topology, dims, budget, options, reasons)
    return Plan(
        name=fingerprint.name,
        labels=fingerprint.labels,
        regions=fingerprint.regions,
        codes=fingerprint.codes,
        channel_names=fingerprint.channel_names,
        ignore_label=fingerprint.ignore_label,
        modality=fingerprint.modality,
        size=size,
        preset=options.family,
        preprocessing=Preprocessing(
            spacing=_floats(grid.spacing),
            slice_axis=grid.slice_axis,
            normalization=plan_normalization(fingerprint, options, reasons),
        ),
        patch_size=topology.patch_size,
        batch_size=_batch(topology, dims, allowed, reasons, published=published),
        network=network if localizer is None else with_context(network, localizer, fingerprint),
        localizer=localizer,
        resolution=grid.resolution,
        mirror_axes=mirroring.axes,
        mirror_swaps=mirroring.swaps,
        fingerprint=summarize_fingerprint(fingerprint, mirroring),
        reasons=reasons,
    )


def _topology(
    grid: Grid, dims: Literal[2, 3], budget: Budget, options: PlanOptions, reasons: dict[str, str], *, published: bool
) -> Topology:
    levels = None if options.family == "default" else _PUBLISHED_LEVELS
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
    options: PlanOptions,
    reasons: dict[str, str],
) -> NetworkConfig:
    inputs, outputs = len(fingerprint.channel_names), len(fingerprint.regions or fingerprint.labels)
    if options.family == "listing":
        return _listing(inputs, outputs, budget, options, reasons)
    gate: Gate | None = None if options.gate == "none" else (options.gate or "grid")
    if options.family == "paper":
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


def _listing(inputs: int, outputs: int, budget: Budget, options: PlanOptions, reasons: dict[str, str]) -> NetworkConfig:
    if options.gate not in (None, "additive"):
        raise ConfigError(f"the listing has additive gates, got --gate {options.gate}", hint="leave out --gate")
    reasons["network"] = "the popular 2-D listing with a single sigmoid, its width set by the size"
    channels = tuple(budget.channels[0] * 2**level for level in range(_PUBLISHED_LEVELS))
    return listing_network(in_channels=inputs, out_channels=outputs, channels=channels)


def _paper(inputs: int, outputs: int, dims: Literal[2, 3], gate: Gate | None, reasons: dict[str, str]) -> NetworkConfig:
    variants: dict[Gate | None, Literal["single", "multi", "unet"]] = {"grid": "single", "multi": "multi", None: "unet"}
    if gate not in variants:
        raise ConfigError(f"the paper's network has grid gates, got --gate {gate}", hint="use grid, multi or none")
    reasons["network"] = f"the paper's network, variant {variants[gate]}, at its published width"
    return paper_network(variants[gate], in_channels=inputs, out_channels=outputs, spatial_dims=dims)


def _mirroring(fingerprint: Fingerprint, grid: Grid, dims: Literal[2, 3], options: PlanOptions) -> Mirroring:
    mirroring = plan_mirroring(fingerprint, grid.slice_axis, dims)
    if options.family != "paper":
        return mirroring
    return replace(mirroring, axes=(0, 1), swaps=(), reason="flips within the plane of the slices, as in the paper")


def _floats(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (rounded(float(value), 6) for value in values)
    return x, y, z


def summarize_fingerprint(fingerprint: Fingerprint, mirroring: Mirroring) -> FingerprintSummary:
    """The fingerprint's summary for the plan."""
    i, j, k = (int(size) for size in np.median(fingerprint.shapes, axis=0))
    x, y, z = (rounded(float(size), 6) for size in np.median(fingerprint.spacings, axis=0))
    voxels = fingerprint.label_voxels
    return FingerprintSummary(
        cases=len(fingerprint.cases),
        channels=len(fingerprint.channel_names),
        median_shape=(i, j, k),
        median_spacing=(x, y, z),
        label_voxels=fingerprint.label_counts(),
        label_cases=dict(zip(fingerprint.foreground, (int(count) for count in (voxels > 0).sum(axis=0)), strict=True)),
        intensities=tuple(_intensities(fingerprint, channel) for channel in range(len(fingerprint.channel_names))),
        ranges=image_ranges(fingerprint),
        lateral=mirroring.lateral,
        fixed_order=mirroring.fixed_order,
    )


def describe_labels(fingerprint: Fingerprint) -> str:
    """The number of cases with each label, and its median size in them: in ml, or in pixels for pictures."""
    voxels = fingerprint.label_voxels
    pictures = fingerprint.modality == "image"
    sizes = voxels if pictures else voxels * np.prod(fingerprint.spacings, axis=1)[:, None] / 1000
    clauses = []
    for name, column in list(zip(fingerprint.foreground, sizes.T, strict=True))[:_LISTED_LABELS]:
        shown = column[column > 0]
        size = f" ({_amount(float(np.median(shown)))} {'pixels' if pictures else 'ml'})" if shown.size else ""
        clauses.append(f"{name} in {shown.size}{size}")
    more = len(fingerprint.foreground) - _LISTED_LABELS
    rest = f" and {more} more" if more > 0 else ""
    return f"found in {len(fingerprint.cases)} cases, median size in brackets: {', '.join(clauses)}{rest}"


def _amount(size: float) -> str:
    return f"{size:,.0f}" if size >= 100 else f"{size:.2g}"


def _intensities(fingerprint: Fingerprint, channel: int) -> tuple[float, ...]:
    values = np.concatenate([case.intensities[channel] for case in fingerprint.cases]).astype(np.float64)
    lower, upper = np.percentile(values, CLIPPED)
    return tuple(float(f"{number:.6g}") for number in (lower, values.mean(), values.std(), upper))
