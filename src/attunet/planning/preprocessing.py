"""The preprocessing of every case: dimensions, slice axis, spacing and normalization of intensities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from attunet.config import Normalization
from attunet.display import decimals
from attunet.errors import ConfigError
from attunet.planning.case_fingerprint import CLIPPED
from attunet.planning.fingerprint import Fingerprint
from attunet.planning.options import Budget, PlanOptions

__all__ = ["Grid", "clips", "coarsened", "follows_paper", "plan_dims", "plan_grid", "plan_normalization"]

Floats = npt.NDArray[np.float64]
_ANISOTROPY = 3.0
_THIN = 8
_COVERED = 4
"""Size of the median volume at low resolution, in patches. Source: nnU-Net (Isensee et al. 2021)."""


@dataclass(frozen=True)
class Grid:
    """The model grid; axes in model order (slice axis last).

    Args:
        slice_axis: canonical axis perpendicular to the slices.
        spacing: (3,) voxel size in mm.
        shape: (3,) voxels of the median case on this grid.
        resolution: "low" when the grid was coarsened so that a patch covers more of the image.
    """

    slice_axis: Literal[0, 1, 2]
    spacing: Floats
    shape: Floats
    resolution: Literal["full", "low"] = "full"


def plan_dims(fingerprint: Fingerprint, options: PlanOptions, reasons: dict[str, str]) -> Literal[2, 3]:
    """Decide the number of spatial dimensions: 2 or 3.

    Args:
        fingerprint: fingerprint of the data set.
        options: the planning options.
        reasons: receives an entry for the decision.
    Returns: 2 or 3.
    Raises: ConfigError when the options request 3-D for 2-D images, or a 3-D listing.
    """
    flat = bool((fingerprint.shapes.min(axis=1) == 1).all())
    if options.family == "listing":
        if options.spatial_dims == 3:
            raise ConfigError("the listing is a 2-D network", hint="leave out --spatial-dims, or --network listing")
        reasons["spatial_dims"] = "the listing is a 2-D network; volumes are trained and predicted slice by slice"
        return 2
    if options.spatial_dims == 3 and flat:
        raise ConfigError("a 3-D network was requested, but the images are 2-D", hint="leave out --spatial-dims")
    if options.spatial_dims:
        reasons["spatial_dims"] = "chosen with --spatial-dims"
        return options.spatial_dims
    depth = int(np.median(fingerprint.shapes.min(axis=1)))
    judgement = "too few for a 3-D network" if depth < _THIN else "enough for a 3-D network"
    reasons["spatial_dims"] = f"the thinnest axis has {depth} voxel{'s' * (depth != 1)} in the median, {judgement}"
    return 2 if depth < _THIN else 3


def plan_grid(
    fingerprint: Fingerprint, dims: Literal[2, 3], budget: Budget, options: PlanOptions, reasons: dict[str, str]
) -> Grid:
    """Decide the grid that every case is resampled to.

    Args:
        fingerprint: fingerprint of the data set.
        dims: spatial dimensions of the network.
        budget: the limits of the size.
        options: the planning options.
        reasons: receives an entry for each decision.
    Returns: the grid, axes in model order.
    """
    axis = _slice_axis(fingerprint, reasons)
    if dims == 3 and follows_paper(fingerprint, options):
        axis, reasons["slice_axis"] = 2, "axial slices, as in the paper"
    order = [*(other for other in range(3) if other != axis), axis]
    native = _native(fingerprint, order, dims, options, reasons)
    extent = np.median(fingerprint.shapes[:, order] * fingerprint.spacings[:, order], axis=0)
    if options.resolution == "low":
        spacing = coarsened(native, extent, dims, _COVERED * budget.voxels[dims])
        low = _explain_low(native, spacing, reasons)
        return Grid(axis, spacing, np.maximum(extent / spacing, 1.0), "low" if low else "full")
    spacing = _spacing(fingerprint, native, extent, dims, budget=budget, options=options, reasons=reasons)
    return Grid(axis, spacing, np.maximum(extent / spacing, 1.0))


def _slice_axis(fingerprint: Fingerprint, reasons: dict[str, str]) -> Literal[0, 1, 2]:
    spacing = np.median(fingerprint.spacings, axis=0)
    shape = np.median(fingerprint.shapes, axis=0)
    flat = (fingerprint.shapes == 1).all(axis=0)
    if flat.any():
        axis = int(np.argmax(flat))
        reasons["slice_axis"] = "the axis on which every image has one voxel"
    elif shape.min() < _THIN:
        axis = int(np.argmin(shape))
        reasons["slice_axis"] = f"with {shape[axis]:.0f} voxels in the median it is the thinnest"
    elif spacing.max() < 1.05 * spacing.min():
        axis = 2
        reasons["slice_axis"] = "the spacing is the same along every axis: axial slices"
    else:
        axis = int(np.argmax(spacing))
        reasons["slice_axis"] = f"its spacing, {decimals(spacing[axis], 2)} mm in the median, is the coarsest"
    return (0, 1, 2)[axis]


def _spacing(
    fingerprint: Fingerprint,
    native: Floats,
    extent: Floats,
    dims: int,
    *,
    budget: Budget,
    options: PlanOptions,
    reasons: dict[str, str],
) -> Floats:
    """The native spacing, coarsened as far as the size requires."""
    spacing = native
    if options.resolution == "auto" and fingerprint.modality != "image" and not follows_paper(fingerprint, options):
        limit = budget.volume_voxels if dims == 3 else _COVERED * budget.voxels[dims]
        spacing = coarsened(native, extent, dims, limit)
        _explain_coarsening(native, spacing, dims, limit, reasons)
    covered = budget.voxels[dims] / float(np.prod(extent[:dims] / spacing[:dims]))
    chosen = (
        "chosen with --resolution" if options.resolution == "full" else "that of the data, as far as the size allows"
    )
    advice = f"; a patch covers {covered:.0%} of the median image: try --resolution low, too" if covered < 0.25 else ""
    reasons["resolution"] = chosen + advice
    return spacing


def _native(
    fingerprint: Fingerprint, order: list[int], dims: int, options: PlanOptions, reasons: dict[str, str]
) -> Floats:
    """The spacing that the data suggest, whatever the size."""
    spacings = fingerprint.spacings[:, order]
    target = np.asarray(np.median(spacings, axis=0))
    reasons["spacing"] = "the median of the data set"
    if fingerprint.modality == "image":
        return target
    if follows_paper(fingerprint, options):
        reasons["spacing"] = "2 mm isotropic, as in the paper"
        return np.full(3, 2.0)
    coarse = int(np.argmax(target))
    finer = float(np.delete(target, coarse).max())
    if dims == 3 and target[coarse] > _ANISOTROPY * finer:
        target[coarse] = max(float(np.percentile(spacings[:, coarse], 10)), finer)
        reasons["spacing"] += f"; the coarse axis at its 10th percentile, {decimals(target[coarse], 2)} mm"
    return target


def follows_paper(fingerprint: Fingerprint, options: PlanOptions) -> bool:
    """Whether data and options match the paper, so that its grid (and in 3-D its patch and batch) are used."""
    return options.family == "paper" and fingerprint.modality == "ct"


def coarsened(target: Floats, extent: Floats, dims: int, limit: int) -> Floats:
    """Coarsen the finest axes first until the median volume (or slice) has at most `limit` voxels.

    Args:
        target: (3,) spacing in mm.
        extent: (3,) size of the median volume in mm.
        dims: number of leading axes that may be coarsened, 2 or 3.
        limit: number of voxels.
    Returns: (3,) spacing in mm.
    """
    spacing = target.copy()
    free = spacing[:dims]
    while np.prod(np.maximum(extent[:dims] / free, 1.0)) > limit:
        free[free <= free.min() * 1.01] *= 1.02
    return spacing


def _explain_coarsening(target: Floats, spacing: Floats, dims: int, limit: int, reasons: dict[str, str]) -> None:
    if not np.array_equal(spacing, target):
        what = "volume" if dims == 3 else "slice"
        reasons["spacing"] += (
            f"; coarsened from {_listed(target)} mm so that the median {what} has at most {limit:,} voxels at this size"
        )


def _explain_low(target: Floats, spacing: Floats, reasons: dict[str, str]) -> bool:
    """The reason for the spacing at low resolution."""
    if np.array_equal(spacing, target):
        reasons["resolution"] = "chosen with --resolution, but a patch covers a quarter of the median image as it is"
        return False
    reasons["spacing"] += f"; coarsened from {_listed(target)} mm"
    reasons["resolution"] = "chosen with --resolution: coarsened until a patch covers a quarter of the median image"
    return True


def _listed(spacing: Floats) -> str:
    return " x ".join(decimals(value, 2) for value in spacing)


def plan_normalization(
    fingerprint: Fingerprint, options: PlanOptions, reasons: dict[str, str]
) -> tuple[Normalization, ...]:
    """How intensities are normalized: CT with the intensity window of the data set, other modalities case by case.

    Args:
        fingerprint: fingerprint of the data set.
        options: the planning options.
        reasons: receives an entry for the decision.
    Returns: one entry per channel.
    """
    kinds = [entry.kind for entry in fingerprint.modalities]
    reasons["modality"] = "; ".join(_described(fingerprint))
    if options.family == "paper" or "ct" not in kinds:
        reasons["normalization"] = "each case and channel to mean 0 and standard deviation 1"
        return (Normalization(kind="zscore"),) * len(kinds)
    low, high = CLIPPED
    rest = "" if set(kinds) == {"ct"} else "; other channels: each case to mean 0 and standard deviation 1"
    reasons["normalization"] = (
        f"CT: clipped to the {low:g}th to {high:g}th percentile of labelled voxels, then their mean and sd{rest}"
    )
    return tuple(
        _ct_window(fingerprint, channel) if kind == "ct" else Normalization(kind="zscore")
        for channel, kind in enumerate(kinds)
    )


def _described(fingerprint: Fingerprint) -> Iterator[str]:
    """The modality of each channel, how certain it is and why; once if all have the same."""
    several = len(set(fingerprint.modalities)) > 1
    for name, entry in zip(fingerprint.channel_names, fingerprint.modalities, strict=True):
        yield f"{f'{name}: ' if several else ''}{entry.kind}, {entry.certainty}: {entry.reason}"
        if not several:
            return


def clips(fingerprint: Fingerprint, options: PlanOptions) -> bool:
    """Whether the intensities of all channels are clipped: for CT, except in the paper's set-up."""
    return options.family != "paper" and all(entry.kind == "ct" for entry in fingerprint.modalities)


def _ct_window(fingerprint: Fingerprint, channel: int) -> Normalization:
    values = np.concatenate([case.intensities[channel] for case in fingerprint.cases])
    lower, upper = (float(bound) for bound in np.percentile(values, CLIPPED))
    inside = np.clip(values, lower, upper)
    return Normalization(
        kind="ct", lower=lower, upper=upper, mean=float(inside.mean()), std=max(float(inside.std()), 1e-3)
    )
