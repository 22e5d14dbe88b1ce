"""Whether a plan gets a localizer, and which: a small network on a grid so coarse that a patch shows most of a case."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from attunet.config import MOST_CONTEXT, Localizer, NetworkConfig
from attunet.data.geometry import rounded
from attunet.errors import ConfigError
from attunet.networks import default_network
from attunet.planning.fingerprint import Fingerprint
from attunet.planning.options import Budget, PlanOptions
from attunet.planning.preprocessing import Grid, coarsened
from attunet.planning.topology import Topology, plan_topology

__all__ = ["plan_localizer", "with_context"]

_COVERED = 0.4
"""Share of the median image that a patch covers, below which the field of view is much larger than a patch."""
_SPARSE = 0.25
"""Share of the voxels that are labelled, above which there is little to skip."""
_SPREAD = 0.5
"""Share of the parts of an image, 16 along each axis, that hold a label, above which there is nowhere to skip: thin
structures such as cell membranes fill few voxels, but are everywhere."""
_COARSER = {2: 16, 3: 8}
"""By spatial dimensions: the voxels of a patch of the fine network, divided by those of the median case on the coarse
grid."""
_PER_PATCH = 5
"""Voxels of the coarse grid along the shortest edge of a patch of the fine network, at least: windows are skipped in
steps of a patch, and a margin is counted in coarse voxels. Where this matters, the localizer needs a few windows."""
_LARGEST_BATCH = 8


@dataclass(frozen=True)
class _Sight:
    """How much of an image is seen, and where its labels are.

    Args:
        covered: share of the median image that a patch covers.
        labelled: share of its voxels that are labelled.
        spread: share of its parts that hold a label; nan when it is unknown.
    """

    covered: float
    labelled: float
    spread: float


def plan_localizer(
    fingerprint: Fingerprint,
    grid: Grid,
    topology: Topology,
    dims: Literal[2, 3],
    budget: Budget,
    options: PlanOptions,
) -> tuple[Localizer | None, str]:
    """Decide on a cascade: a localizer on a coarse grid, then the fine network where it found something.

    Args:
        fingerprint: fingerprint of the data set.
        grid: the grid of the fine network.
        topology: patch of the fine network.
        dims: spatial dimensions.
        budget: the limits of the size, or less if memory is short.
        options: the planning options.
    Returns: the localizer, None for a plan of one stage; and the reason.
    Raises: ConfigError when a cascade was requested for a published network.
    """
    sight = _sight(fingerprint, grid, topology, dims)
    wanted, reason = _decide(sight, options)
    if not wanted:
        return None, reason
    limit = budget.voxels[dims] // _COARSER[dims]
    extent = grid.shape * grid.spacing
    coarsest = np.multiply(topology.patch_size, grid.spacing)[:dims].min() / _PER_PATCH
    spacing = np.minimum(coarsened(grid.spacing, extent, dims, limit), np.maximum(grid.spacing, coarsest))
    shape = np.maximum(extent / spacing, 1.0)
    coarse = plan_topology(shape, spacing, dims, limit, len(budget.channels))
    outputs = len(fingerprint.regions or fingerprint.labels)
    network = default_network(
        spatial_dims=dims,
        in_channels=len(fingerprint.channel_names),
        out_channels=outputs,
        channels=budget.channels[: len(coarse.strides) + 1],
        strides=coarse.strides,
        kernel_sizes=coarse.kernel_sizes,
        gate="grid" if options.gate is None else None if options.gate == "none" else options.gate,
    )
    x, y, z = (rounded(float(value), 6) for value in spacing)
    localizer = Localizer(
        spacing=(x, y, z),
        patch_size=coarse.patch_size,
        batch_size=max(2, min(limit * budget.batch[dims] // prod(coarse.patch_size), _LARGEST_BATCH)),
        network=network,
        context="labels" if len(fingerprint.foreground) <= MOST_CONTEXT else "foreground",
    )
    seen = " x ".join(f"{size:.0f}" for size in shape[:dims])
    return localizer, f"{reason}; the localizer sees the median case as {seen} voxels"


def with_context(network: NetworkConfig, localizer: Localizer, fingerprint: Fingerprint) -> NetworkConfig:
    """The fine network with an input for each context channel of its localizer.

    Args:
        network: settings of the fine network without context.
        localizer: the localizer.
        fingerprint: fingerprint of the data set.
    Returns: the settings of the network.
    """
    more = {"labels": len(fingerprint.foreground), "foreground": 1, "none": 0}[localizer.context]
    return network.model_copy(update={"in_channels": network.in_channels + more})


def _sight(fingerprint: Fingerprint, grid: Grid, topology: Topology, dims: int) -> _Sight:
    covered = prod(topology.patch_size[:dims]) / float(np.prod(grid.shape[:dims]))
    voxels = np.prod(fingerprint.shapes, axis=1)  # of cropped images
    counts = fingerprint.label_voxels
    labelled = (counts.max(axis=1) if fingerprint.regions else counts.sum(axis=1)) / voxels  # regions overlap
    return _Sight(min(1.0, covered), float(np.median(labelled)), float(np.median(fingerprint.spread)))


def _decide(sight: _Sight, options: PlanOptions) -> tuple[bool, str]:
    facts = f"a patch covers {sight.covered:.0%} of the median image, and {sight.labelled:.1%} of it is labelled"
    if options.cascade != "auto":
        if options.cascade == "on" and options.family != "default":
            raise ConfigError(
                f"a cascade was requested, but --network {options.family} is a published network of one stage",
                hint="leave out --cascade or --network",
            )
        return options.cascade == "on", f"chosen with --cascade; {facts}"
    if options.family != "default":
        return False, "off: a published network has one stage"
    if sight.covered >= _COVERED:
        return False, f"off: {facts}, so a patch sees enough"
    if sight.labelled >= _SPARSE:
        return False, f"off: {facts}, so there is little to skip"
    if sight.spread >= _SPREAD:
        return False, f"off: {facts}, but labels lie in {sight.spread:.0%} of its parts, so there is nothing to skip"
    return True, f"on: {facts}"
